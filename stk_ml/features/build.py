"""Runs views over pinned tables: into the lake for keeps, or into a world for a replay."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

import duckdb
import pyarrow as pa

from stk_ml.contracts import TableVersion
from stk_ml.errors import StkMlError, WriteConflictError
from stk_ml.features.catalog import Catalog
from stk_ml.features.columns import logical_type
from stk_ml.features.mask import Mask, join_keys, masked_sql
from stk_ml.features.pit import quoted
from stk_ml.features.view import FeatureView
from stk_ml.features.world import World, translated
from stk_ml.lake.lake import Lake

VIEW, INPUTS = "stk_ml.view", "stk_ml.inputs"


def build_view(view: FeatureView, lake: Lake, world: World, inputs: Mapping[str, TableVersion]) -> TableVersion:
    """Writes ``curated.VIEW``, unless it stands there already, made from the same SQL and the same inputs.

    Args:
        view: the view.
        lake: where its tables are.
        world: holds the tables that it reads.
        inputs: these tables, pinned.

    Raises:
        DeclarationError: the SQL fails; with its line.
        WriteConflictError: another writer won twice.
    """
    table = lake.table(f"curated.{view.name}")
    noted = {VIEW: view.digest, INPUTS: json.dumps({n: [t.version, t.digest] for n, t in sorted(inputs.items())})}
    if table.exists():
        version = table.version()
        if dict(table.metadata(version)) == noted:
            return table.pinned(version)
    for last in (False, True):
        try:
            return table.pinned(table.overwrite(_stream(view, world), metadata=noted))
        except WriteConflictError:
            if last:
                raise
    raise AssertionError("unreachable")


def made_from(lake: Lake, tables: Iterable[TableVersion]) -> dict[str, TableVersion]:
    """The pinned raw tables that curated tables were made from, as their commits say."""
    raw: dict[str, TableVersion] = {}
    for pinned in tables:
        if pinned.name.startswith("curated."):
            noted = json.loads(lake.table(pinned.name).metadata(pinned.version).get(INPUTS, "{}"))
            for name, (version, _) in noted.items():
                if name.startswith("raw.") and name not in raw:
                    raw[name] = lake.table(name).pinned(version)
    return raw


def replay_views(
    catalog: Catalog, names: Iterable[str], lake: Lake, world: World, raw: Mapping[str, TableVersion], mask: Mask
) -> None:
    """Fills a world with the views as they would have been built at a mask's instant.

    Args:
        catalog: the declared views.
        names: the views that are needed.
        lake: where the raw tables are.
        world: an empty world.
        raw: the pinned raw tables; each is declared in sources.yml or has a column known_time.
        mask: the instant.
    """
    order = catalog.order(names)
    keys = join_keys(catalog.view(name) for name in order)
    for table in catalog.raw_tables(names):
        dataset = lake.table(table).dataset(raw[table].version)
        world.expose(table, dataset, masked_sql(mask, catalog.source(table), dataset.schema.names, keys))
    for name in order:
        world.execute(f"CREATE TABLE curated.{quoted(name)} AS {catalog.view(name).sql}")


def _stream(view: FeatureView, world: World) -> pa.RecordBatchReader:
    try:
        types = {str(row[0]): str(row[1]) for row in world.connection.execute(f"DESCRIBE {view.sql}").fetchall()}
    except duckdb.Error as error:
        raise _failed(view, error) from error
    needed = [*view.entity, view.event_time, view.known_time, *(column.name for column in view.columns)]
    missing = [name for name in needed if name not in types]
    if missing:
        raise view.error(f"the SELECT has no column {missing[0]!r}", hint=f"it gives {', '.join(types)}")
    for name in (view.event_time, view.known_time):
        if logical_type(types[name]) not in ("timestamp", "date"):
            raise view.error(f"column {name!r} is {types[name]}, not a time", hint="CAST it AS TIMESTAMP")
    columns = ", ".join(f"{_storable(name, kind)} AS {quoted(name)}" for name, kind in types.items())
    try:
        return world.reader(f"SELECT {columns} FROM ({view.sql})")
    except StkMlError as error:
        raise view.error(str(error)) from error


def _storable(name: str, kind: str) -> str:
    """A column in a type that a Delta table has; times with their zone, UTC, so that every reader agrees."""
    cast = {"TIMESTAMP": "TIMESTAMPTZ", "HUGEINT": "BIGINT", "UHUGEINT": "BIGINT"}.get(kind)
    if kind.startswith("ENUM"):
        cast = "VARCHAR"
    return f"CAST({quoted(name)} AS {cast})" if cast else quoted(name)


def _failed(view: FeatureView, error: duckdb.Error) -> StkMlError:
    """DuckDB's complaint about a view's SQL, at the line of the file."""
    text = str(error)
    line = re.search(r"^LINE (\d+):", text, re.M)
    if isinstance(error, (duckdb.IOException, duckdb.OutOfMemoryException)):
        return translated(error)
    return view.error(text.splitlines()[0], int(line[1]) if line else None, hint=_candidates(text))


def _candidates(text: str) -> str:
    found = re.search(r"Candidate bindings: (.*)", text)
    return f"did you mean {found[1].strip()}?" if found else ""
