"""Feature views: SQL files in pipelines/features, built over the lake, joined as of the time of each prediction.

stk-ml features list                     the views, what they are about and who owns them
stk-ml features build [VIEW ...]         write curated tables of the views (default: all)
stk-ml features check [VIEW ...]         column contracts of the curated tables; --model M: the leakage audit too
stk-ml features pull MODEL --out DIR     the training set of a model: point-in-time join, audited
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from stk_ml.cli.output import Output
from stk_ml.errors import DataError, UsageError

if TYPE_CHECKING:
    from stk_ml.contracts import AuditFinding, Dataset, Snapshot
    from stk_ml.features.local import DuckDBFeatureEngine
    from stk_ml.model_spec import ModelSpec
    from stk_ml.workspace import Workspace


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the subcommands of ``stk-ml features``."""
    shared = argparse.ArgumentParser(add_help=False, parents=[common])
    shared.add_argument("--views", metavar="DIR", help="folder of the views (default: pipelines/features)")
    shared.add_argument("--lake", metavar="URI", help="folder or az:// of the lake")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    listing = commands.add_parser("list", parents=[shared], help="the views, what they are about and who owns them")
    listing.set_defaults(run=run_list)

    snapshot = commands.add_parser("snapshot", parents=[shared], help="pin the raw tables that a model reads")
    _model(snapshot)
    snapshot.add_argument("--out", required=True, metavar="FILE", help="where to write the snapshot")
    snapshot.set_defaults(run=run_snapshot)

    build = commands.add_parser("build", parents=[shared], help="write the curated tables of views")
    build.add_argument("view", nargs="*", metavar="VIEW", help="default: all, or those of the model")
    _model(build)
    build.add_argument("--snapshot", metavar="FILE", help="pinned raw tables (default: the newest)")
    build.add_argument("--out", metavar="FILE", help="where to write the snapshot of the curated tables")
    build.set_defaults(run=run_build)

    pull = commands.add_parser("pull", parents=[shared], help="the training set of a model")
    pull.add_argument("name", nargs="?", default="", metavar="MODEL", help="name of a model, or path of its YAML file")
    _model(pull)
    pull.add_argument("--snapshot", metavar="FILE", help="pinned curated tables (default: build them from the newest)")
    pull.add_argument("--raw", metavar="FILE", help="pinned raw tables, for the audit's replay")
    pull.add_argument("--now", metavar="TIME", help="time travel: labels known after it do not count (ISO 8601, UTC)")
    pull.add_argument("--out", required=True, metavar="DIR", help="folder to write data.parquet and dataset.json to")
    pull.set_defaults(run=run_pull)

    check = commands.add_parser(
        "check", parents=[shared], help="column contracts of views; with --model the leakage audit"
    )
    check.add_argument("view", nargs="*", metavar="VIEW", help="default: all, or those of the model")
    _model(check)
    check.set_defaults(run=run_check)


def run_list(args: argparse.Namespace, out: Output) -> int:
    """Lists the views."""
    catalog = _workspace(args).catalog(args.views)
    views = [catalog.view(name) for name in catalog.names()]
    out.document(
        [
            {
                "name": v.name,
                "entity": v.entity,
                "event_time": v.event_time,
                "known_time": v.known_time,
                "description": v.description,
                "owner": v.owner,
                "depends": v.depends,
                "digest": v.digest,
            }
            for v in views
        ]
    )
    rows = [[v.name, ", ".join(v.entity), v.known_time, ", ".join(v.depends), v.owner, v.description] for v in views]
    out.table("feature views", ["view", "entity", "known at", "reads", "owner", "description"], rows)
    return 0


def run_snapshot(args: argparse.Namespace, out: Output) -> int:
    """Pins the raw tables that a model reads."""
    from stk_ml.contracts import write

    workspace = _workspace(args)
    snapshot = workspace.features(args.views).snapshot(_spec(workspace, args.model))
    write(snapshot, args.out)
    _show(snapshot, out)
    return 0


def run_build(args: argparse.Namespace, out: Output) -> int:
    """Writes the curated tables of views."""
    from stk_ml.contracts import Snapshot, read, write

    workspace = _workspace(args)
    engine = workspace.features(args.views, progress=_progress(out))
    spec = _spec(workspace, args.model)
    names = args.view or (_views(spec) if spec else None)
    raw = read(Snapshot, args.snapshot) if args.snapshot else engine.snapshot(spec)
    # A flat table has no views: what was pinned is what will be read.
    built = raw if spec is not None and spec.data.table else engine.build(names, raw)
    if args.out:
        write(built, args.out)
    _show(built, out)
    return 0


def run_pull(args: argparse.Namespace, out: Output) -> int:
    """Writes the training set of a model."""
    from datetime import UTC, datetime

    from stk_ml import model_spec
    from stk_ml.contracts import Snapshot, read

    workspace = _workspace(args)
    spec = _spec(workspace, args.model or args.name)
    if spec is None:
        raise UsageError("name a model", hint="stk-ml features pull MODEL --out DIR")
    engine = workspace.features(args.views, progress=_progress(out))
    raw = read(Snapshot, args.raw) if args.raw else engine.snapshot(spec)
    if args.snapshot:
        curated = read(Snapshot, args.snapshot)
    else:
        curated = raw if spec.data.table else engine.build(_views(spec), raw)
    # Without time travel the wall clock is the limit, and a label from beyond it is a mistake in the data.
    now = model_spec.instant(args.now) if args.now else datetime.now(UTC)
    dataset = engine.pull(spec, curated, Path(args.out), now=now, strict_now=not args.now, raw=raw)
    out.document({"out": args.out, "rows": dataset.rows, "digest": dataset.digest, "audit": dataset.audit})
    _show_dataset(dataset, out)
    return 0


def run_check(args: argparse.Namespace, out: Output) -> int:
    """Checks column contracts, and with a model its leakage audit."""
    workspace = _workspace(args)
    spec = _spec(workspace, args.model)
    engine = workspace.features(args.views, progress=_progress(out))
    findings = list(engine.check(args.view or (_views(spec) if spec else workspace.catalog(args.views).names())))
    if spec is not None:
        findings += _audit(engine, spec)
    out.document(findings)
    _show_findings(findings, out)
    broken = [f for f in findings if f.rows > 0]
    if broken:
        raise DataError(
            f"{len(broken)} of {len(findings)} checks failed", hint=f"first: {broken[0].column} ({broken[0].rule})"
        )
    return 0


def _audit(engine: DuckDBFeatureEngine, spec: ModelSpec) -> list[AuditFinding]:
    raw = engine.snapshot(spec)
    return list(engine.audit(spec, engine.build(_views(spec), raw), raw))


def _workspace(args: argparse.Namespace) -> Workspace:
    from stk_ml.cli.common import open_workspace

    return open_workspace(args, lake=args.lake)


def _model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="", metavar="M", help="name of a model, or path of its YAML file")


def _spec(workspace: Workspace, model: str) -> ModelSpec | None:
    from stk_ml import model_spec

    return model_spec.load(workspace.model_file(model)) if model else None


def _views(spec: ModelSpec) -> list[str]:
    """The views that a model reads, its spine first."""
    return [view for view in (spec.data.spine, *(use.view for use in spec.data.features)) if view]


def _progress(out: Output):  # type: ignore[no-untyped-def]
    return None if out.quiet else lambda what, done, total: out.say(f"{what}  {done}/{total}")


def _show(snapshot: Snapshot, out: Output) -> None:
    out.document(snapshot)
    rows = [[t.name, t.version, f"{t.rows:,}", t.digest[:12]] for t in snapshot.tables]
    out.table("", ["table", "version", "rows", "digest"], rows, right=(1, 2))


def _show_dataset(dataset: Dataset, out: Output) -> None:
    out.line(f"{dataset.rows:,} rows, {len(dataset.role('feature'))} features, {dataset.unlabelled:,} not labelled yet")
    _show_findings(dataset.audit, out)


def _show_findings(findings: list[AuditFinding] | tuple[AuditFinding, ...], out: Output) -> None:
    mark = {True: "FAIL", False: "ok"}
    rows = [
        [
            mark.get(f.rows > 0) if f.rows >= 0 else "?",
            f.rule,
            f.column,
            f"{max(f.rows, 0):,}",
            f"{f.checked:,}",
            f.detail,
        ]
        for f in findings
    ]
    out.table("", ["", "rule", "column", "rows", "of", "detail"], rows, right=(3, 4))
