"""Features on one machine: DuckDB over the Delta tables of the lake."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from stk_ml.contracts import AuditFinding, Dataset, Snapshot, TableVersion, write
from stk_ml.errors import TableNotFoundError, closest
from stk_ml.features import audit as rules
from stk_ml.features.build import build_view, made_from, replay_views
from stk_ml.features.catalog import Catalog
from stk_ml.features.columns import check_columns, raise_broken
from stk_ml.features.frame import Frame, resolve
from stk_ml.features.labels import Labelled, check_labels, moment
from stk_ml.features.mask import MODES, Mask, undeclared
from stk_ml.features.pit import quoted
from stk_ml.features.training_set import published, sha256, write_rows
from stk_ml.features.world import World
from stk_ml.lake.lake import Lake
from stk_ml.model_spec import ModelSpec

_FILES = {".parquet": "read_parquet", ".pq": "read_parquet", ".csv": "read_csv"}


class DuckDBFeatureEngine:
    """See :class:`stk_ml.features.protocol.FeatureEngine`.

    Args:
        lake: where the tables are.
        catalog: the declared views.
        threads: at most so many; 0 for all cores.
        memory_limit: as DuckDB writes it (``4GB``); what does not fit is spilled to disk.
        progress: called with what is being done, steps done and steps in all.
        root: folder that the relative path of a model's CSV or Parquet file starts at; default the current one.
    """

    def __init__(
        self,
        lake: Lake,
        catalog: Catalog,
        *,
        threads: int = 0,
        memory_limit: str = "",
        progress: Callable[[str, int, int], None] | None = None,
        root: Path | None = None,
    ) -> None:
        self._root = root or Path()
        self.lake, self.catalog = lake, catalog
        self._threads, self._memory_limit = threads, memory_limit
        self._progress = progress or (lambda what, done, total: None)

    def snapshot(self, spec: ModelSpec | None = None) -> Snapshot:
        """Pins the raw tables that the model's (or all) views read, or its flat table."""
        if spec is not None and spec.data.table:
            file = self._file(spec)
            pinned = _pinned_file(file) if file else self.lake.table(spec.data.table).pinned()
            return Snapshot((pinned,))
        tables = self.catalog.raw_tables(_views(spec) if spec else self.catalog.names())
        return Snapshot(tuple(self.lake.table(name).pinned() for name in tables))

    def build(self, names: Sequence[str] | None, snapshot: Snapshot) -> Snapshot:
        """Writes the curated tables of views and of those they read; returns them pinned."""
        order = self.catalog.order(self.catalog.names() if names is None else names)
        pinned = {table.name: table for table in snapshot.tables}
        curated: list[TableVersion] = []
        with self._world() as world:
            for done, name in enumerate(order):
                view = self.catalog.view(name)
                self._progress(f"view {name}", done, len(order))
                for table in view.depends:
                    if table not in pinned:
                        raise TableNotFoundError(
                            f"view {name!r} reads {table}, which is not in the snapshot", hint="take a new snapshot"
                        )
                    world.expose(table, self.lake.table(table).dataset(pinned[table].version))
                built = build_view(view, self.lake, world, {table: pinned[table] for table in view.depends})
                pinned[built.name] = built
                curated.append(built)
        self._progress("views", len(order), len(order))
        digests = {name: self.catalog.view(name).digest for name in sorted(order)}
        return Snapshot(tuple(sorted(curated, key=lambda table: table.name)), digests)

    def pull(
        self,
        spec: ModelSpec,
        snapshot: Snapshot,
        out: Path,
        *,
        now: datetime | None = None,
        audit: bool = True,
        raw: Snapshot | None = None,
        strict_now: bool = False,
    ) -> Dataset:
        """Writes the audited training set of a model."""
        with published(out) as folder, self._world() as world:
            frame, labelled = self._open(spec, snapshot, world, now, strict_now)
            self._progress("training set", 0, 1)
            data = folder / "data.parquet"
            columns = write_rows(frame, labelled, world, data)
            findings = list(frame.left_out)
            if audit:
                findings += self._audit(frame, world, data, snapshot, raw)
                rules.raise_leaks(findings)
            tables = {table.name: table for table in (*snapshot.tables, *(raw.tables if raw else ()))}
            dataset = Dataset(
                columns=columns,
                rows=labelled.rows,
                digest=sha256(data),
                snapshot=Snapshot(tuple(tables[name] for name in sorted(tables)), snapshot.views),
                audit=tuple(findings),
                now=_iso(now) if frame.label_time and now else "",
                unlabelled=labelled.unlabelled,
            )
            write(dataset, folder / "dataset.json")
        self._progress("training set", 1, 1)
        return dataset

    def requests(self, spec: ModelSpec, snapshot: Snapshot, out: Path, *, since: datetime, until: datetime) -> int:
        """Writes the rows of a model as an app would ask about them, with labels where there are any."""
        with self._world() as world:
            frame = resolve(spec, world, self.catalog, self._expose(spec, snapshot, world))
            world.execute(f"CREATE VIEW source.rows AS {frame.rows_sql()}")
            as_of = f"CAST({quoted(spec.data.as_of)} AS TIMESTAMP)"
            asked = f"{as_of} >= {moment(since)} AND {as_of} < {moment(until)}"
            (rows,) = world.row(f"SELECT count(*) FROM source.rows WHERE {asked}")
            write_rows(frame, Labelled(asked, f"CAST({quoted(spec.data.target)} AS DOUBLE)", rows, 0), world, out)
        return int(rows)

    def _file(self, spec: ModelSpec) -> Path | None:
        """The CSV or Parquet file that a model reads; None when it reads the lake."""
        table = spec.data.table
        path = self._root / table
        if not table or _suffix(path) not in _FILES:
            return None
        if not path.is_file():
            beside = path.parent.glob("*") if path.parent.is_dir() else ()
            near = [file.name for file in beside if _suffix(file) in _FILES]
            raise TableNotFoundError(f"there is no file {table}", hint=closest(path.name, near))
        return path.resolve()

    def check(self, names: Sequence[str]) -> list[AuditFinding]:
        """The column contracts of the newest curated tables, without raising."""
        findings: list[AuditFinding] = []
        with self._world() as world:
            for done, name in enumerate(names):
                view = self.catalog.view(name)
                self._progress(f"check {name}", done, len(names))
                world.expose(f"curated.{name}", self.lake.table(f"curated.{name}").dataset())
                findings += check_columns(world, f"curated.{name}", view.columns, where=name)
        return findings

    def audit(
        self, spec: ModelSpec, snapshot: Snapshot, raw: Snapshot | None = None, *, now: datetime | None = None
    ) -> list[AuditFinding]:
        """All that the audit of :meth:`pull` finds, without raising."""
        with tempfile.TemporaryDirectory(prefix="stk-ml-") as scratch, self._world() as world:
            frame, labelled = self._open(spec, snapshot, world, now, False)
            data = Path(scratch) / "data.parquet"
            write_rows(frame, labelled, world, data)
            return [*frame.left_out, *self._audit(frame, world, data, snapshot, raw)]

    def _open(
        self, spec: ModelSpec, snapshot: Snapshot, world: World, now: datetime | None, strict_now: bool
    ) -> tuple[Frame, Labelled]:
        """Resolves a model against its pinned data and checks contracts, keys and labels."""
        relation = self._expose(spec, snapshot, world)
        frame = resolve(spec, world, self.catalog, relation)
        for name in dict.fromkeys(_views(spec)):
            raise_broken(check_columns(world, f"curated.{name}", self.catalog.view(name).columns, where=name))
        world.execute(f"CREATE VIEW source.rows AS {frame.rows_sql()}")
        return frame, check_labels(frame, world, "source.rows", now=now, strict_now=strict_now)

    def _expose(self, spec: ModelSpec, snapshot: Snapshot, world: World) -> str:
        """Makes the model's tables readable; returns the name of its spine or flat table."""
        pinned = {table.name: table for table in snapshot.tables}
        file = self._file(spec)
        if file:
            world.expose_file("source.flat", file, _FILES[_suffix(file)])
            return "source.flat"
        names = [spec.data.table] if spec.data.table else [f"curated.{name}" for name in _views(spec)]
        for name in dict.fromkeys(names):
            if name not in pinned:
                raise TableNotFoundError(
                    f"{name} is not in the snapshot", hint=f"run stk-ml features build; {closest(name, pinned)}"
                )
            world.expose(name, self.lake.table(name).dataset(pinned[name].version))
        return names[0]

    def _audit(
        self, frame: Frame, world: World, data: Path, snapshot: Snapshot, raw: Snapshot | None
    ) -> list[AuditFinding]:
        world.expose_file("source.dataset", data, "read_parquet")
        findings = rules.time_rule(frame, world, "source.rows")
        findings += rules.copy_rule(frame, world, "source.dataset")
        findings += rules.suspicion_rule(frame, world, "source.dataset")
        return findings + self._replay(frame, world, data, snapshot, raw)

    def _replay(
        self, frame: Frame, world: World, data: Path, snapshot: Snapshot, raw: Snapshot | None
    ) -> list[AuditFinding]:
        spec = frame.spec
        if spec.data.table:
            detail = "cannot tell: nothing says when the columns of a flat table became known"
            return [AuditFinding("replay", "*", -1, 0, detail)]
        views = _views(spec)
        tables = {t.name: t for t in raw.tables} if raw else made_from(self.lake, snapshot.tables)
        needed = self.catalog.raw_tables(views)
        if missing := [name for name in needed if name not in tables]:
            detail = f"cannot tell: which version of {', '.join(missing)} was read is not known"
            return [AuditFinding("replay", name, -1, 0, detail) for name in missing]
        columns = {name: self.lake.table(name).schema(tables[name].version).names for name in needed}
        if unknown := undeclared(columns, self.catalog.sources):
            detail = "cannot tell: sources.yml does not say when its rows became known, and it has no column known_time"
            return [AuditFinding("replay", name, -1, 0, detail) for name in unknown]
        moments = rules.instants(frame, world, "source.dataset")
        masks = [Mask(moment, mode) for moment in moments for mode in MODES]

        def run(mask: Mask) -> rules.Replayed:
            self._progress(f"audit {mask.instant:%Y-%m-%d} {mask.mode}", masks.index(mask), len(masks))
            with self._world() as past:
                replay_views(self.catalog, views, self.lake, past, tables, mask)
                return rules.replay(frame, past, data, mask)

        return rules.replay_rule(frame, masks, run)

    @contextmanager
    def _world(self) -> Iterator[World]:
        scratch = Path(tempfile.mkdtemp(prefix="stk-ml-spill-"))
        try:
            with World(threads=self._threads, memory_limit=self._memory_limit, scratch=scratch) as world:
                yield world
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _views(spec: ModelSpec) -> list[str]:
    """The views that a model reads, its spine first; none for a flat table."""
    data = spec.data
    return [data.spine, *(use.view for use in data.features)] if data.spine else []


def _suffix(file: Path) -> str:
    return file.suffix.lower() if file.suffix.lower() != ".gz" else Path(file.stem).suffix.lower()


def _pinned_file(file: Path) -> TableVersion:
    return TableVersion(str(file), str(file), -1, sha256(file))


def _iso(moment: datetime) -> str:
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
