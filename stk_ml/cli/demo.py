"""Replays a real year: trains on January to June, serves July to December over HTTP, watches, retrains, tells it.

stk-ml demo                          flights from New York in 2013; under four minutes, no network
stk-ml demo --until 2013-08-01       the first month only

Everything is as in a project, but the clock, which is set by the replay: the endpoint stamps its telemetry with it,
labels count once the plane has landed, the monitor looks once per day, the governor decides, the gate and a canary
judge. The project is kept in the folder: look around in it with --project.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from stk_ml.cli.output import Output
from stk_ml.errors import UsageError
from stk_ml.workspace import Workspace

if TYPE_CHECKING:
    from stk_ml.cli.demo_replay import Replay
    from stk_ml.clock import FileClock
    from stk_ml.deployment.local import LocalEndpointManager
    from stk_ml.simulation.rows import Rows
    from stk_ml.simulation.year import Year
    from stk_ml.workspace import Training

MODEL = "flight-delay"
SINCE, END = "2013-07-01", "2014-01-01"
#: What the demo declares otherwise than the example: it stands at the first of July, and a retrain takes half a minute.
_SPLIT = {"validation_from": "2013-05-15", "test_from": "2013-06-01", "until": SINCE}
_GATE = {"metric": "log_loss", "floor": 0.65, "margin": 0.01, "window": "14d", "calibration_error": 0.15}
_RETRAIN = {"windows": 3, "of": 5, "cooldown": "30d", "per_month": 1}
#: What tells a folder of the demo from any other.
_MARK = ".stk-ml-demo"
#: Made anew by each run; the lake and the cache of steps stay, so a second run is faster.
_STATE = ("endpoints", "telemetry", "monitoring", "mlflow.db", "artifacts", "vault.json", "clock")


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the flags of ``stk-ml demo``."""
    parser.add_argument("--folder", type=Path, default=Path(".stk/demo"), metavar="DIR", help="where (.stk/demo)")
    parser.add_argument("--until", default=END, metavar="DATE", help=f"end of the replay (default {END})")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """Trains, replays, tells."""
    from stk_ml import contracts, file_locks
    from stk_ml.monitoring.store import write_page
    from stk_ml.simulation import page, story

    since, until = _time(SINCE), _time(args.until)
    if not since < until <= _time(END):
        raise UsageError(f"--until {args.until} is not after {SINCE} and up to {END}", hint="leave it out")
    began, folder = time.perf_counter(), args.folder.resolve()
    lock = file_locks.take(folder.with_name(f".{folder.name}.lock"))
    if lock is None:
        raise UsageError(f"another demo runs in {folder}", hint="wait for it to end, or name another --folder")
    try:
        year = _play(_open(_project(folder)), since, until, out, began)
        contracts.write(year, folder / "year.json")
        write_page(folder / "index.html", page.render(year))
    finally:
        os.close(lock)
    out.document(year)
    for line in story.lines(year):
        out.line(line)
    out.line(f"page  {folder / 'index.html'}")
    return 0


class _Demo(Workspace):
    """A project whose workers tell the log once per simulated day."""

    @cached_property
    def endpoints(self) -> LocalEndpointManager:
        """See :class:`stk_ml.workspace.Workspace`."""
        from stk_ml.deployment.local import LocalEndpointManager

        worker = (sys.executable, "-m", "stk_ml", "serve", "--flush", "86400", "--endpoint-folder")
        return LocalEndpointManager(self.settings, worker_command=worker)


def _open(folder: Path) -> _Demo:
    return _Demo(folder, clock=str(folder / ".stk" / "clock"))


def _project(folder: Path) -> Path:
    """Lays the project out, and removes what another run has left."""
    import yaml

    from stk_ml.cli import init
    from stk_ml.ingestion.flights import data_folder

    data_folder()  # whoever lacks the data shall learn it first
    if folder.exists() and not (folder / _MARK).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} is not a folder of the demo, which would replace what is in it", hint="name a new --folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).write_text("stk-ml demo replaces what is in this folder.\n", "utf-8")
    if (folder / "stk.toml").is_file():
        endpoints = _open(folder).endpoints
        for name in endpoints.names():  # of a run that was killed
            endpoints.delete(name)
    for path, content in init.files(folder.name).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    for name in _STATE:
        path = folder / ".stk" / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    (folder / ".stk").mkdir(exist_ok=True)
    file = folder / "pipelines" / "models" / f"{MODEL}.yml"
    declared = yaml.safe_load(file.read_text("utf-8"))
    declared |= {"split": _SPLIT, "gate": _GATE, "retrain": _RETRAIN}
    file.write_text(yaml.safe_dump(declared, sort_keys=False, width=120), "utf-8")
    return folder


def _play(workspace: _Demo, since: float, until: float, out: Output, began: float) -> Year:
    from stk_ml.clock import FileClock

    clock = FileClock(workspace.settings.clock)
    clock.set(since)
    seconds: dict[str, float] = {}
    training = _train(workspace, since, out)
    frozen = workspace.registry.download(f"{MODEL}:{training.registration.version.version}")
    rows = _rows(workspace, since, until)
    seconds["training"] = time.perf_counter() - began
    out.say(f"deploys {MODEL}:{training.registration.version.version} and replays {len(rows.ids):,} flights")
    try:
        replay = _replay(workspace, rows, clock, since, until, out)
        with replay.caller:
            replay.run()
    finally:
        if MODEL in workspace.endpoints.names():
            workspace.endpoints.stop(MODEL)
    told = _told(training, rows, replay, frozen, since, until)
    return replace(told, seconds={**seconds, **replay.seconds, "all": time.perf_counter() - began})


def _train(workspace: _Demo, since: float, out: Output) -> Training:
    from stk_ml.cli.events import Watcher
    from stk_ml.ingestion.flights import load_flights

    load_flights(workspace.lake)
    out.say(f"trains {MODEL} on what was known on {SINCE}")
    with Watcher(out) as watcher:
        return workspace.train(MODEL, now=datetime.fromtimestamp(since, UTC), on_event=watcher)


def _rows(workspace: _Demo, since: float, until: float) -> Rows:
    """What an app asks: the curated views are built; the rows are joined as they were known when each is asked for."""
    from stk_ml import model_spec
    from stk_ml.simulation.rows import Rows

    spec = model_spec.load(workspace.model_file(MODEL))
    engine, file = workspace.features(), workspace.settings.cache.parent / "requests.parquet"
    views = [spec.data.spine, *(use.view for use in spec.data.features)]
    curated = engine.build(views, engine.snapshot(spec))
    moments = (datetime.fromtimestamp(moment, UTC) for moment in (since, until))
    engine.requests(spec, curated, file, since=next(moments), until=next(moments))
    data = spec.data
    return Rows.read(file, entity=data.entity[0], as_of=data.as_of, label_time=data.label_time, target=data.target)


def _replay(workspace: _Demo, rows: Rows, clock: FileClock, since: float, until: float, out: Output) -> Replay:
    from stk_ml.cli.demo_replay import Replay, Steps
    from stk_ml.cli.monitor_parts import Monitoring
    from stk_ml.cli.retrain_steps import WorkspaceSteps
    from stk_ml.deployment.rollout import RolloutPolicy
    from stk_ml.retraining.ledger import RunLedger
    from stk_ml.simulation.caller import Caller
    from stk_ml.telemetry.local_reader import LocalLogReader
    from stk_ml.vault import keys

    version, settings = workspace.registry.champion(MODEL), workspace.settings
    model = f"{MODEL}:{version.version}"
    endpoint = workspace.endpoints.deploy(
        MODEL, workspace.registry.download(model), MODEL, version.version, version.digest
    )
    key = dict(keys.read(workspace.endpoints.vault, MODEL))["primary"]
    monitoring = Monitoring(workspace, MODEL)
    ledger = RunLedger(settings.monitoring / MODEL, MODEL)
    reader = LocalLogReader(settings.telemetry)
    replay = Replay(rows, Caller(endpoint.url, key), clock, monitoring, ledger, reader, lambda text: None, since, until)
    policy = RolloutPolicy(error_rate=0.05, min_requests=100, min_seconds=86_400.0, max_seconds=14 * 86_400.0)
    file = workspace.model_file(MODEL)
    assert monitoring.spec is not None  # noqa: S101
    inner = WorkspaceSteps(
        workspace, monitoring.spec, file, ledger.folder, policy, out, clock, lambda seconds: replay.day()
    )
    replay.steps = Steps(inner, replay.note)
    return replay


def _told(training: Training, rows: Rows, replay: Replay, frozen: Path, since: float, until: float) -> Year:
    from stk_ml.artifact.predictor import Predictor
    from stk_ml.simulation.year import Year, calibration, iso, measure

    predictor = Predictor.load(frozen, threads=0)
    schema = predictor.schema
    scores = predictor.many(schema.matrix(schema.select(rows.features)))
    stretches, total, gain = measure(rows.asked, rows.labels, rows.scores, scores)
    runs = replay.ledger.runs()
    return Year(
        model=MODEL,
        since=iso(since),
        until=iso(until),
        trained=_trained(training),
        requests=len(rows.ids),
        seconds={},
        days=tuple(replay.days),
        events=tuple(replay.events),
        stretches=stretches,
        total=total,
        gain=gain,
        reliability=calibration(rows.labels, rows.scores, scores),
        retrains=len(runs),
        promoted=sum(run.outcome == "promoted" for run in runs),
    )


def _trained(training: Training) -> str:
    version, test = training.registration.version.version, training.evaluation.find("test")
    auc = f", AUC {test.values['auc'].value:.3f} in June" if test else ""
    return f"{MODEL}:{version} is trained on January to June{auc}"


def _time(text: str) -> float:
    from stk_ml import model_spec

    try:
        return model_spec.instant(text).timestamp() // 86_400.0 * 86_400.0
    except ValueError as error:
        raise UsageError(f"--until: {error}", hint="write 2013-08-01") from error
