"""What a model reads, resolved against the data: its rows, their roles, its own features and the views to look up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from stk_ml.contracts import AuditFinding, Column
from stk_ml.errors import DataError, LeakageError, UnknownNameError, UsageError
from stk_ml.features.catalog import Catalog
from stk_ml.features.columns import logical_type
from stk_ml.features.pit import Lookup, point_in_time_sql, quoted
from stk_ml.features.world import World
from stk_ml.model_spec import ModelSpec, duration

#: Text with more distinct values than this is no category.
MAX_CATEGORIES = 1000


@dataclass(frozen=True)
class Frame:
    """The rows of a model and what is known about each.

    Attributes:
        spec: the model.
        relation: the spine (``curated.NAME``) or the flat table, in SQL.
        types: DuckDB types of the relation's columns.
        own: features that stand in the relation itself.
        looked_up: features that come from views, in the order of ``lookups``.
        slices: columns kept for reports.
        lookups: the views to join.
        known_time: column of the relation that says when its features were known; empty for a flat table.
        left_out: columns that cannot be features, as findings.
    """

    spec: ModelSpec
    relation: str
    types: dict[str, str]
    own: tuple[Column, ...]
    looked_up: tuple[Column, ...] = ()
    slices: tuple[Column, ...] = ()
    lookups: tuple[Lookup, ...] = ()
    known_time: str = ""
    left_out: tuple[AuditFinding, ...] = ()

    @property
    def features(self) -> tuple[Column, ...]:
        """All features, those of the relation first."""
        return (*self.own, *self.looked_up)

    @property
    def label_time(self) -> str:
        """Name of the label time in the result; empty when the data has no time."""
        data = self.spec.data
        return data.label_time or ("label_time" if data.as_of else "")

    @property
    def keys(self) -> list[str]:
        """What names a row: as_of, then the entity."""
        data = self.spec.data
        return [*filter(None, [data.as_of]), *data.entity]

    def rows_sql(self, where: str = "") -> str:
        """The relation's rows with clean times under their names, and nothing of the views yet."""
        data = self.spec.data
        times = [f"CAST({quoted(data.as_of)} AS TIMESTAMP) AS {quoted(data.as_of)}"] if data.as_of else []
        if self.label_time:
            times.append(f"{self._label_time_sql()} AS {quoted(self.label_time)}")
        taken = {data.as_of, self.label_time}
        joined = [left for lookup in self.lookups for left, _ in lookup.on]
        names = [*data.entity, data.target, self.known_time, *self._names(self.own), *self._names(self.slices), *joined]
        plain = [quoted(name) for name in dict.fromkeys(names) if name and name not in taken]
        return f"SELECT {', '.join([*times, *plain])} FROM {self.relation}" + (f" WHERE {where}" if where else "")

    def joined_sql(self, rows: str) -> str:
        """``rows`` (a SELECT with the columns of :meth:`rows_sql`) with the columns of the views beside."""
        if not self.lookups:
            return rows
        return point_in_time_sql(f"({rows})", self.spec.data.as_of, self.lookups)

    def _label_time_sql(self) -> str:
        data = self.spec.data
        if data.label_time:
            return f"CAST({quoted(data.label_time)} AS TIMESTAMP)"
        seconds = round(duration(data.label_delay).total_seconds())
        return f"CAST({quoted(data.as_of)} AS TIMESTAMP) + INTERVAL {seconds} SECOND"

    @staticmethod
    def _names(columns: Iterable[Column]) -> list[str]:
        return [column.name for column in columns]


def resolve(spec: ModelSpec, world: World, catalog: Catalog, relation: str) -> Frame:
    """Finds every column that the model names, and types its features.

    Args:
        spec: the model.
        world: holds the relation and ``curated.VIEW`` of each view that the model uses.
        catalog: the declared views.
        relation: the spine or the flat table.

    Raises:
        UnknownNameError: a column that is not there, with the closest that is.
        LeakageError: the target is among the features.
        UsageError: two views give a feature of one name.
        DataError: a time column holds no times, or no feature is left.
    """
    data = spec.data
    types = world.columns(relation)
    what = f"column of {data.spine or data.table}"
    named = (data.target, *data.entity, data.as_of, data.label_time, *data.exclude, *data.keep)
    _require(what, filter(None, named), types)
    for name in filter(None, (data.as_of, data.label_time)):
        if logical_type(types[name]) not in ("timestamp", "date"):
            raise DataError(f"column {name!r} is {types[name]}, not a time", hint="store it as a timestamp in UTC")
    used = {data.target, *data.entity, data.as_of, data.label_time, *data.exclude, *data.keep}
    declared: dict[str, Column] = {}
    known_time = ""
    if data.spine:
        view = catalog.view(data.spine)
        used |= {view.event_time, view.known_time}
        known_time = view.known_time
        declared = {column.name: column for column in view.columns}
    own, left_out = _typed(world, relation, [name for name in types if name not in used], types, declared, "")
    slices = [
        Column(name, _slice_type(types[name]), "slice") for name in data.keep if name not in (data.target, *data.entity)
    ]
    frame = Frame(spec, relation, types, tuple(own), (), tuple(slices), (), known_time, tuple(left_out))
    return _checked(_look_up(frame, world, catalog))


def _look_up(frame: Frame, world: World, catalog: Catalog) -> Frame:
    looked_up, lookups, left_out = [], [], list(frame.left_out)
    for use in frame.spec.data.features:
        view = catalog.view(use.view)
        relation = f"curated.{quoted(view.name)}"
        types = world.columns(relation)
        on = use.on or view.entity
        if len(on) != len(view.entity):
            raise UsageError(
                f"view {view.name!r} has the entity {list(view.entity)}, but on names {list(on)}",
                hint="name one column of the spine for each column of the entity, in its order",
            )
        _require(f"column of {frame.spec.data.spine}", on, frame.types)
        _require(f"column of view {view.name}", use.columns, [name for name in types if name not in view.keys])
        wanted = [name for name in (use.columns or types) if name not in view.keys]
        declared = {column.name: column for column in view.columns}
        columns, out = _typed(world, relation, wanted, types, declared, view.name)
        left_out += out
        pairs = tuple((column.name, use.prefix + column.name) for column in columns)
        looked_up += [replace(column, name=use.prefix + column.name) for column in columns]
        lookups.append(
            Lookup(
                relation,
                tuple(zip(on, view.entity, strict=True)),
                pairs,
                view.event_time,
                view.known_time,
                duration(use.lookback) if use.lookback else None,
            )
        )
    return replace(frame, looked_up=tuple(looked_up), lookups=tuple(lookups), left_out=tuple(left_out))


def _checked(frame: Frame) -> Frame:
    data = frame.spec.data
    taken = {name: "the spine" for name in (*frame.keys, frame.label_time, frame.known_time) if name}
    taken |= {column.name: "the spine" for column in (*frame.own, *frame.slices)}
    for column in frame.looked_up:
        if column.name == data.target:
            raise LeakageError(
                f"the target {data.target!r} is among the features of view {column.view!r}",
                hint="list the view's other columns in data.features[].columns, or give it a prefix",
            )
        if column.name in taken:
            raise UsageError(
                f"view {column.view!r} and {taken[column.name]} both give a column {column.name!r}",
                hint=f"give the view a prefix: {{view: {column.view}, prefix: {column.view}_}}",
            )
        taken[column.name] = f"view {column.view!r}"
    if not frame.features:
        raise DataError(f"model {frame.spec.name!r} has no features", hint="see data.features and data.exclude")
    return frame


def _typed(
    world: World, relation: str, names: Sequence[str], types: dict[str, str], declared: dict[str, Column], view: str
) -> tuple[list[Column], list[AuditFinding]]:
    """The features among some columns of a relation, and findings for those that cannot be one."""
    columns, left_out = [], []
    for name in names:
        column = declared.get(name)
        kind = column.type if column else logical_type(types[name])
        reason = ""
        if kind == "text":
            distinct = _distinct(world, relation, name)
            kind = "category"
            if distinct > MAX_CATEGORIES:
                reason = f"text with more than {MAX_CATEGORIES:,} different values"
        elif kind in ("timestamp", "date"):
            reason = f"a {kind} is no number; take what matters from it (hour, weekday, age)"
        elif kind is None:
            reason = f"its type {types[name]} is no feature"
        if reason or kind is None:
            left_out.append(AuditFinding("left_out", f"{view}.{name}" if view else name, 0, 0, reason))
        elif column:
            columns.append(replace(column, type=kind, view=view))
        else:
            columns.append(Column(name, kind, view=view))
    return columns, left_out


def _distinct(world: World, relation: str, name: str) -> int:
    limited = f"SELECT DISTINCT {quoted(name)} FROM {relation} LIMIT {MAX_CATEGORIES + 2}"
    return int(world.row(f"SELECT count({quoted(name)}) FROM ({limited})")[0])


def _slice_type(stored: str):  # type: ignore[no-untyped-def]
    kind = logical_type(stored)
    return "category" if kind in ("text", None) else kind


def _require(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    known = list(known)
    for name in names:
        if name not in known:
            raise UnknownNameError(what, name, known)
