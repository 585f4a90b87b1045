"""A project opened: one lazy property per service, and training as one call.

Example:
    >>> workspace = Workspace("/tmp")
    >>> workspace.settings.profile
    'laptop'
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stk_ml import model_spec
from stk_ml.contracts import Evaluation, Registration, read
from stk_ml.errors import UnknownNameError
from stk_ml.settings import Settings

if TYPE_CHECKING:
    from stk_ml.artifact.model import TrainedModel
    from stk_ml.deployment.local import LocalEndpointManager
    from stk_ml.features.catalog import Catalog
    from stk_ml.features.local import DuckDBFeatureEngine
    from stk_ml.lake.lake import Lake
    from stk_ml.orchestration.local import LocalRunner, PipelineRun
    from stk_ml.registry.models import ModelRegistry


@dataclass(frozen=True)
class Training:
    """What a training left behind.

    Attributes:
        registration: registered version and the gate's verdict.
        evaluation: metrics with intervals per split, month and slice.
        run: the pipeline run: steps, seconds, what was cached.
        card: the model card, an HTML file.
        model_file: the YAML file that declared the model.
    """

    registration: Registration
    evaluation: Evaluation
    run: PipelineRun
    card: Path
    model_file: Path


class Workspace:
    """A project and its services.

    Args:
        project: its folder; default the nearest at or above the current one that holds stk.toml.
        profile: profile in stk.toml.
        flags: settings that win over environment and file: ``lake="az://lake"``, ``tracking_uri=...``.

    Raises:
        DeclarationError, UnknownNameError, SettingError: see :meth:`stk_ml.settings.Settings.load`.
    """

    def __init__(self, project: str | Path | None = None, *, profile: str | None = None, **flags: str | None) -> None:
        self.settings = Settings.load(project, profile=profile, flags=flags)
        # Steps open the project anew: what was asked for here must hold there too, and MLflow in a user's own step
        # finds the store as it does on Azure ML.
        given = {f"STK_ML_{name.upper()}": value for name, value in flags.items() if value is not None}
        chosen = {"STK_ML_PROFILE": profile} if profile else {}
        self._environment = {**given, **chosen, "MLFLOW_TRACKING_URI": self.settings.tracking_uri}

    @cached_property
    def lake(self) -> Lake:
        """The lake: Delta tables in the zones raw, curated and features."""
        from stk_ml.lake.lake import Lake

        return Lake(self.settings.lake, self.settings.lake_options)

    @cached_property
    def pipelines(self) -> Path:
        """The project's pipelines folder, or the one that comes with stk-ml when it has no train.yml of its own."""
        own = self.settings.pipelines
        return own if (own / "train.yml").is_file() else resource("pipelines")

    @cached_property
    def registry(self) -> ModelRegistry:
        """Registered models: MLflow."""
        from stk_ml.registry.models import ModelRegistry

        return ModelRegistry(self.settings.tracking_uri, self.settings.artifacts)

    @cached_property
    def endpoints(self) -> LocalEndpointManager:
        """Endpoints on this machine."""
        from stk_ml.deployment.local import LocalEndpointManager

        return LocalEndpointManager(self.settings)

    def catalog(self, views: str | Path | None = None) -> Catalog:
        """The feature views of a folder; default the project's pipelines/features."""
        from stk_ml.features.catalog import Catalog

        return Catalog(Path(views) if views else self.pipelines / "features")

    def features(
        self, views: str | Path | None = None, *, progress: Callable[[str, int, int], None] | None = None
    ) -> DuckDBFeatureEngine:
        """The engine that builds feature views and training sets."""
        from stk_ml.features.local import DuckDBFeatureEngine

        return DuckDBFeatureEngine(self.lake, self.catalog(views), progress=progress, root=self.settings.project)

    def runner(self, on_event: Callable[[Any], None] | None = None) -> LocalRunner:
        """Runs Azure ML pipeline files on this machine."""
        from stk_ml.orchestration.local import LocalRunner
        from stk_ml.registry.provenance import lock_digest

        # The command line stands above this module; the runner needs it only when a step is an stk-ml command.
        def invoke(*args: Any) -> int:
            return int(import_module("stk_ml.cli.app").invoke(*args))

        settings = self.settings
        return LocalRunner(
            settings.cache,
            invoke=invoke,
            datastores={"lake": settings.lake},
            lock=lock_digest(settings.project),
            on_event=on_event,
            project=settings.project,
            environment=self._environment,
        )

    def model_file(self, model: str | Path) -> Path:
        """The YAML file of a model given by name or by path."""
        own = self.settings.pipelines
        declared = str(model) in model_spec.names(own)
        return model_spec.find(str(model), own if declared else self.pipelines).resolve()

    def train(
        self,
        model: str | Path = "",
        *,
        table: str = "",
        target: str = "",
        time: str = "",
        now: datetime | None = None,
        force: Sequence[str] = (),
        on_event: Callable[[Any], None] | None = None,
    ) -> Training:
        """Runs pipelines/train.yml for a model.

        Args:
            model: its name or the path of its YAML file. Or, with no file at all:
            table: a lake table (``zone.table``) or a CSV or Parquet file,
            target: the column to predict, and
            time: the column with the time of the prediction; without it the split is random, which flatters.
            now: time travel: labels known later do not count. Default: all labels count.
            force: names of steps to run even when cached.
            on_event: called with each step's start and end.

        Raises:
            StepFailedError: a step failed; its log is named.
            UnknownNameError, DeclarationError: no such model, or a mistake in its file.
        """
        from stk_ml.orchestration.parse import load_pipeline

        file = self.model_file(model) if model else self._declare(table, target, time)
        model_spec.load(file, shown=_shown(file))
        pipeline = load_pipeline(self.pipelines / "train.yml")
        inputs = {"model": str(file), "views": str(self.pipelines / "features")}
        if now is not None:
            inputs["now"] = now.isoformat()
        run = self.runner(on_event).run(pipeline, inputs, force=force)
        evaluation = run.outputs["evaluation"]
        return Training(
            registration=read(Registration, run.outputs["registration"]),
            evaluation=read(Evaluation, evaluation / "evaluation.json"),
            run=run,
            card=evaluation / "card.html",
            model_file=file,
        )

    def load_model(self, ref: str) -> TrainedModel:
        """A registered model, its files checked against its manifest: ``name``, ``name@champion`` or ``name:3``."""
        from stk_ml.artifact.model import TrainedModel

        return TrainedModel.load(self.registry.download(ref))

    def _declare(self, table: str, target: str, time: str) -> Path:
        from stk_ml.features.infer import declare_table

        folder = self.settings.pipelines / "models"
        return declare_table(self.lake, table, target, time, folder=folder, root=self.settings.project)


def train(model: str | Path = "", *, project: str | Path | None = None, **options: Any) -> Training:
    """Trains a model of the project in the current folder; see :meth:`Workspace.train` for the options."""
    return Workspace(project).train(model, **options)


def load_model(ref: str, *, project: str | Path | None = None) -> TrainedModel:
    """Loads a registered model; see :meth:`Workspace.load_model`."""
    return Workspace(project).load_model(ref)


def resource(name: str) -> Path:
    """A folder that comes with stk-ml: pipelines, environments or deploy.

    Raises:
        UnknownNameError: there is none of that name.
    """
    package = Path(__file__).parent
    for folder in (package / "_project" / name, package.parent / name):
        if folder.is_dir():
            return folder
    raise UnknownNameError("resource", name, ["pipelines", "environments", "deploy"])


def _shown(file: Path) -> str:
    """A path as people like it: relative to the current folder when it is below it."""
    return str(file.relative_to(Path.cwd())) if file.is_relative_to(Path.cwd()) else str(file)
