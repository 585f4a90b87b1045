"""The parts that ``stk-ml monitor`` puts together: log, labels, the models that served, and MLflow."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from stk_ml import model_spec
from stk_ml.contracts import Interval, read
from stk_ml.endpoint_state import Deployment, EndpointState
from stk_ml.errors import ArtifactError, LabelError, RegistryError, UnknownNameError
from stk_ml.model_policies import MonitorSpec
from stk_ml.monitoring.calibrate import Calibration, calibrate
from stk_ml.monitoring.checks import TelemetryQuality
from stk_ml.monitoring.drift import DriftSettings
from stk_ml.monitoring.events import LogAnnouncer
from stk_ml.monitoring.judge import Judge
from stk_ml.monitoring.labelled import LabelledPerformance
from stk_ml.monitoring.labels import LabelLedger, Recorded, matching, prediction_ids, read_labels
from stk_ml.monitoring.reference import Reference
from stk_ml.monitoring.run import run
from stk_ml.monitoring.samples import Samples
from stk_ml.monitoring.store import Look, MonitorFolder
from stk_ml.monitoring.windows import LogWindows
from stk_ml.telemetry import queries
from stk_ml.telemetry.local import ParquetPredictionLog
from stk_ml.telemetry.local_reader import LocalLogReader

if TYPE_CHECKING:
    from stk_ml.model_spec import ModelSpec
    from stk_ml.telemetry.served import Served
    from stk_ml.workspace import Workspace

_SPLIT = "test."
#: Windows of predictions that are read at once to find those of labels.
_AT_ONCE = 7


class Monitoring:
    """The monitoring of one model of a project.

    Args:
        workspace: the project.
        model: name of the model, or path of its YAML file; a model without a file is watched by the defaults.
        deployment: name of the one deployment to look at; empty for all.
    """

    def __init__(self, workspace: Workspace, model: str, deployment: str = "") -> None:
        self._workspace, self.deployment = workspace, deployment
        self.spec, self.name = _declared(workspace, model)
        self.settings = self.spec.monitor if self.spec else MonitorSpec()
        self.folder = MonitorFolder(workspace.settings.monitoring, self.name, deployment)
        self.ledger = LabelLedger(workspace.settings.monitoring / self.name / "labels")
        self._made: dict[bool, tuple[Judge, LogWindows, LogAnnouncer]] = {}

    @property
    def length(self) -> float:
        """Of a window, in seconds."""
        return model_spec.duration(self.settings.window).total_seconds()

    def run(
        self, now: Callable[[], float], since: float | None, until: float | None, settle: float, *, joint: bool = True
    ) -> Iterator[Look]:
        """See :func:`stk_ml.monitoring.run.run`; ``joint``: whether a classifier looks at the columns together."""
        judge, windows, announcer = self._parts(joint)
        return run(self.folder, windows, judge, announcer, now=now, since=since, until=until, settle=settle)

    def _parts(self, joint: bool) -> tuple[Judge, LogWindows, LogAnnouncer]:
        """Kept from run to run, with what they have read."""
        if joint not in self._made:
            reader, log = self._reader, ParquetPredictionLog(self._workspace.settings.telemetry, worker="monitor")
            samples = Samples(reader, self.name, self.deployment)
            min_rows = self.settings.min_rows
            judge = Judge(
                self.name,
                self.settings,
                self.reference,
                quality=TelemetryQuality(reader, self.name, self.deployment, samples=samples),
                performance=LabelledPerformance(
                    reader, self.name, self.ledger, self._measured, min_rows=min_rows, deployment=self.deployment
                ),
                joint=samples.joint if joint else None,
            )
            windows = LogWindows(reader, self.name, self.length, self.deployment)
            self._made[joint] = judge, windows, LogAnnouncer(log, reader)
        return self._made[joint]

    def why_nothing(self, now: float, settle: float) -> str:
        """For people, when :meth:`run` found nothing to look at: what it waits for."""
        until = self.folder.state().until
        windows = LogWindows(self._reader, self.name, self.length, self.deployment)
        begin = until or windows.first(now)
        if begin is None:
            where = self._workspace.settings.telemetry
            return f"nothing was scored by {self.folder.path.name} so far: {where} holds no telemetry of it"
        due = datetime.fromtimestamp(begin + self.length + settle, UTC)
        return (
            f"no window has ended that was not looked at; the next can be looked at from {due:%Y-%m-%d %H:%M:%S} UTC on"
        )

    def reference(self, served: Served) -> Reference:
        """The model that served: an endpoint's copy of it, else the registry's.

        Raises:
            ArtifactError: it is in neither.
        """
        return Reference.load(self._artifact(served))

    def record(self, file: Path, now: datetime) -> Recorded:
        """Records the labels of a file; see :func:`stk_ml.monitoring.labels.read_labels`.

        Raises:
            LabelError: also when the model tells two classes apart and an outcome is none of them.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        labels = read_labels(file)
        if self.spec and self.spec.problem == "binary" and "outcome" in labels.column_names:
            odd = set(labels.column("outcome").unique().to_pylist()) - {0, 1, None}
            if odd:
                several = f"{file} holds outcomes that are neither 0 nor 1: {', '.join(sorted(map(str, odd))[:3])}"
                raise LabelError(several, hint=f"{self.name} tells two classes apart")
        recorded = self.ledger.record(labels, now=now)
        known = pc.max(labels.column("known_time").cast(pa.timestamp("us", "UTC"), safe=False)).as_py()
        ids = labels.column("prediction_id").unique().to_pylist()
        # Nothing is known of a prediction before it was made.
        return replace(recorded, matched=matching(ids, self._logged(known.timestamp()))) if ids else recorded

    def _logged(self, until: float) -> Iterator[list[str]]:
        """Ids of the logged predictions, some windows at once, the newest first."""
        first = LogWindows(self._reader, self.name, self.length).first(until)
        end = math.ceil(until / self.length) * self.length
        while first is not None and end > first:
            # A request's rows are never in two windows, so windows are cut where the monitor cuts them.
            start = max(end - _AT_ONCE * self.length, first)
            made = queries.predictions(self._reader, self.name, start, end).sort_by("time")
            yield prediction_ids(made.column("request_id").to_pylist(), made.column("row_id").to_pylist())
            end = start

    def calibrate(self, seed: int, *, joint: bool = True) -> Calibration:
        """See :func:`stk_ml.monitoring.calibrate.calibrate`; of the model that serves, else of the champion."""
        serving = _serving(self._workspace, self.name)
        reference = Reference.load(serving.folder if serving else self._workspace.registry.download(self.name))
        return calibrate(
            reference.profile,
            {field.name: field.type for field in reference.document.schema.fields},
            settings=DriftSettings.of(self.settings),
            weights=reference.weights,
            per_year=self.settings.false_alarms_per_year,
            joint=joint,
            span=max(round(self.length / 86_400), 1),
            seed=seed,
        )

    def log(self, look: Look) -> str:
        """Keeps ``report.html`` and ``verdict.json`` of a look in MLflow; returns the run's id."""
        verdict, end = look.verdict, look.verdict.window_end
        effects = {f"effect.{column.name}": column.effect.value for column in verdict.columns}
        performance = {f"{found.source}.{found.metric}": found.value.value for found in verdict.performance}
        tags = {
            "answer": verdict.answer,
            "alarm": str(verdict.alarm).lower(),
            "version": str(verdict.version),
            "digest": verdict.digest,
            "reason": verdict.reason,
        }
        with tempfile.TemporaryDirectory() as folder:
            report, document = Path(folder, "report.html"), Path(folder, "verdict.json")
            shutil.copyfile(self.folder.report_file(end), report)
            shutil.copyfile(self.folder.verdict_file(end), document)
            return self._workspace.registry.log_report(
                f"{self.name}-monitoring",
                f"{self.folder.path.name}-{end}",
                [report, document],
                metrics={"rows": verdict.rows, "spent": verdict.spent, **effects, **performance},
                tags=tags,
            )

    @cached_property
    def _reader(self) -> LocalLogReader:
        return LocalLogReader(self._workspace.settings.telemetry)

    def _artifact(self, served: Served) -> Path:
        for copy in self._workspace.settings.endpoints.glob(f"*/models/{served.digest}"):
            return copy
        try:
            version = self._workspace.registry.version(f"{self.name}:{served.version}")
            if version.digest == served.digest:
                return self._workspace.registry.download(version)
        except (RegistryError, UnknownNameError):
            pass
        which = f"{self.name}:{served.version} ({served.digest[:12]})"
        raise ArtifactError(
            f"{which} has been served, but is neither with an endpoint nor in the registry",
            hint="begin after it with --since, or put the model back",
        )

    def _measured(self, served: Served) -> Mapping[str, Interval]:
        """The test metrics of a version; none of a model that is not in the registry."""
        try:
            metrics = self._workspace.registry.show(f"{self.name}:{served.version}").metrics
        except (RegistryError, UnknownNameError):
            return {}
        names = [key.removeprefix(_SPLIT) for key in metrics if key.startswith(_SPLIT) and f"{key}.low" in metrics]
        return {
            name: Interval(*(metrics[f"{_SPLIT}{name}{bound}"] for bound in ("", ".low", ".high"))) for name in names
        }


def _declared(workspace: Workspace, model: str) -> tuple[ModelSpec | None, str]:
    try:
        spec = model_spec.load(workspace.model_file(model))
    except UnknownNameError:
        folder = MonitorFolder(workspace.settings.monitoring, model)
        known = folder.path.is_dir() or _serving(workspace, model) or model in workspace.registry.names()
        if not known:
            raise
        return None, model
    return spec, spec.name


def _serving(workspace: Workspace, model: str) -> Deployment | None:
    """The deployment of a model that answers most requests; None when no endpoint has one."""
    states = [read(EndpointState, file) for file in sorted(workspace.settings.endpoints.glob("*/endpoint.json"))]
    found = [each for state in states for each in state.deployments if each.model == model and not each.shadow]
    return max(found, key=lambda each: each.traffic, default=None)
