from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import duckdb
import duckdb_kql
import pyarrow as pa
import pytest
from telemetry_rigs import parameters_of

from stk_ml.errors import UnknownNameError, UsageError
from stk_ml.telemetry import kusto
from stk_ml.telemetry.local_reader import LocalLogReader
from stk_ml.telemetry.rows import COLUMNS

PACKAGE = Path(__file__).parents[2] / ".tools/kusto/node_modules/@kusto/language-service-next"
TYPES = {"string": pa.string(), "long": pa.int64(), "real": pa.float64(), "datetime": pa.timestamp("us", "UTC")}
HOSTILE = [
    'v3" or true or "" == "',
    '"; AppEvents | take 10 //',
    "\\",
    '\\" | union AppRequests //',
    "'; drop table AppEvents; --",
    "h'x' @\"y\" ```z```",
    "{{model}} %s $1 \\u0022 \\x22 \\n",
    "café 東京 𝄞",
    "",
    " ",
    "// a comment",
    "a" * 256,
]


def asked(queries: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What Microsoft's parser says of each."""
    node = shutil.which("node")
    if node is None or not (PACKAGE / "bridge.js").exists():
        pytest.skip("the Kusto parser is absent: sh tests/telemetry/install_kusto.sh (it needs npm)")
    tables = {
        table: "(" + ", ".join(f"{name}: {kind}" for name, kind in columns.items()) + ")"
        for table, columns in COLUMNS.items()
    }
    told = subprocess.run(
        [node, str(Path(__file__).with_name("kusto_check.js")), str(PACKAGE)],
        input=json.dumps({"tables": tables, "queries": queries}),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found: dict[str, dict[str, Any]] = json.loads(told.stdout)
    return found


@pytest.fixture(scope="module")
def parsed() -> dict[str, dict[str, Any]]:
    """The parser's word on every query, on hostile texts, and on two mistakes."""
    statements = {name: kusto.statement(name, **parameters_of(name)) for name in kusto.names()}
    hostile = {f"hostile {place}": f"print {kusto.literal(text)}" for place, text in enumerate(HOSTILE)}
    wrong = {
        "wrong column": statements["scores"].replace("ItemCount", "ItemsCount"),
        "wrong end": statements["scores"] + "| where (",
    }
    return asked({**statements, **hostile, **wrong})


@pytest.mark.parametrize("name", kusto.names())
def test_the_kusto_parser_accepts_a_query_and_types_it_as_the_laptop_does(
    parsed: dict[str, dict[str, Any]], name: str, tmp_path: Path
) -> None:
    assert parsed[name]["diagnostics"] == []
    here = LocalLogReader(tmp_path).query(name, **parameters_of(name)).schema
    there = parsed[name]["columns"]
    assert {field.name: field.type for field in here} == {column: TYPES[kind] for column, kind in there.items()}


def test_the_kusto_parser_refuses_what_is_wrong(parsed: dict[str, dict[str, Any]]) -> None:
    assert "KS142" in parsed["wrong column"]["diagnostics"][0]
    assert parsed["wrong end"]["diagnostics"]


@pytest.mark.parametrize("place", range(len(HOSTILE)))
def test_the_kusto_parser_reads_a_hostile_text_as_one_text(parsed: dict[str, dict[str, Any]], place: int) -> None:
    assert parsed[f"hostile {place}"]["diagnostics"] == []
    assert parsed[f"hostile {place}"]["strings"] == [HOSTILE[place]]


@pytest.mark.parametrize("text", HOSTILE)
def test_the_laptop_reads_hostile_texts_as_one_text(text: str) -> None:
    with duckdb.connect() as connection:
        assert connection.sql(duckdb_kql.to_sql(f"print {kusto.literal(text)}")).fetchall() == [(text,)]


@pytest.mark.parametrize("text", ["a\nb", "a\r| take 1", "\0", "\u2028", "\u0085", "a\tb", chr(0xD800), "\u202e"])
def test_what_cannot_be_printed_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be asked for"):
        kusto.literal(text)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_numbers_that_are_not_finite_are_refused(number: float) -> None:
    with pytest.raises(UsageError):
        kusto.literal(number)


def test_times_are_told_in_utc_to_the_microsecond() -> None:
    here = datetime(2026, 3, 1, 1, 0, 0, 7, tzinfo=timezone(timedelta(hours=1)))
    assert kusto.literal(here) == "datetime(2026-03-01T00:00:00.000007Z)"
    assert kusto.literal(datetime(1970, 1, 1, tzinfo=UTC)) == "datetime(1970-01-01T00:00:00.000000Z)"
    with pytest.raises(UsageError, match="zone"):
        kusto.literal(datetime(2026, 3, 1))


@pytest.mark.parametrize("name", kusto.names())
def test_a_query_uses_each_of_its_parameters_and_no_others(name: str) -> None:
    body = "\n".join(line for line in kusto.text(name).splitlines() if not line.startswith("//"))
    for parameter in kusto.takes(name):
        assert re.search(rf"\b{parameter}\b", body), parameter
        others = {key: value for key, value in parameters_of(name).items() if key != parameter}
        with pytest.raises(UsageError, match=f"the query {name} takes"):
            kusto.statement(name, **others)
    with pytest.raises(UsageError):
        kusto.statement(name, **parameters_of(name), other=1)


@pytest.mark.parametrize("name", ["histogram", "", "../rows", "rows.kql", "/etc/passwd"])
def test_a_query_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(UnknownNameError):
        kusto.statement(name)


def test_every_query_reads_a_stretch_of_time_of_every_table_it_names() -> None:
    for name in kusto.names():
        body = kusto.text(name)
        sources = re.findall(r"\bApp(?:Events|Requests|Metrics)\n\| where (.*)", body)
        assert len(sources) == len(re.findall(r"\bApp(?:Events|Requests|Metrics)\b", body))
        assert all(source.startswith("TimeGenerated > since and TimeGenerated <= until and ") for source in sources)
