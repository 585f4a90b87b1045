// Asks Microsoft's Kusto parser and binder about queries.
//
//   node kusto_check.js FOLDER_OF_THE_PACKAGE < {"tables": {name: "(column: type, ...)"}, "queries": {name: text}}
//
// Prints {query: {"diagnostics": [text], "columns": {name: type}, "strings": [value of each text in it]}}.
const fs = require("fs");
const folder = process.argv[2];
require(folder + "/bridge.js");
require(folder + "/Kusto.Language.Bridge.js");
const { KustoCode, KustoFacts, GlobalState, Symbols } = Kusto.Language;

const input = JSON.parse(fs.readFileSync(0, "utf8"));
const tables = Object.entries(input.tables).map(([name, columns]) => new Symbols.TableSymbol.$ctor7(name, columns, null));
const globals = GlobalState.Default.WithDatabase(new Symbols.DatabaseSymbol.$ctor3("log", null, tables, false));
const all = (list) => Array.from({ length: System.Array.getCount(list) }, (_, place) => System.Array.getItem(list, place));

function check(text) {
  const code = KustoCode.ParseAndAnalyze(text, globals);
  const diagnostics = all(code.GetDiagnostics()).map(
    (found) => `${found.Code} ${found.Severity} ${found.Message} at ${text.slice(found.Start, found.Start + found.Length)}`,
  );
  const columns = code.ResultType && code.ResultType.Columns ? all(code.ResultType.Columns) : [];
  const strings = all(code.GetLexicalTokens())
    .filter((token) => token.Kind === Kusto.Language.Syntax.SyntaxKind.StringLiteralToken)
    .map((token) => KustoFacts.GetStringLiteralValue(token.Text));
  return { diagnostics, columns: Object.fromEntries(columns.map((column) => [column.Name, column.Type.Name])), strings };
}

const answers = Object.entries(input.queries).map(([name, text]) => [name, check(text)]);
console.log(JSON.stringify(Object.fromEntries(answers)));
