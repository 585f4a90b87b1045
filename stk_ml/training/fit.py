"""Fits the declared model on a training set and writes the sealed artifact."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml

from stk_ml import contracts
from stk_ml.artifact import golden as golden_rows
from stk_ml.artifact import manifest, model, profile
from stk_ml.artifact.model import ModelDocument, TrainedModel
from stk_ml.artifact.profile import Profile
from stk_ml.artifact.schema import FeatureSchema
from stk_ml.errors import ArtifactError, LabelError, StorageError
from stk_ml.model_spec import ModelSpec
from stk_ml.training import mlmodel
from stk_ml.training.calibrate import calibrate
from stk_ml.training.data import load_dataset, split_dataset, take, target, times
from stk_ml.training.golden import golden
from stk_ml.training.learners.auto import AutoLearner
from stk_ml.training.learners.estimator import EstimatorLearner
from stk_ml.training.learners.lightgbm import LightGbmLearner
from stk_ml.training.learners.protocol import Learned, Learner, LearningData
from stk_ml.training.profile import profile as make_profile
from stk_ml.training.schema import feature_schema
from stk_ml.training.splits import SplitParts, Times, iso

#: Golden scores of the saved model may differ by so much from those of the model in memory.
TOLERANCE = 1e-9

Progress = Callable[[str, float], None]


def fit(
    spec: ModelSpec,
    dataset_folder: Path,
    out: Path,
    *,
    spec_file: Path | None = None,
    code_dir: Path | None = None,
    progress: Progress | None = None,
) -> TrainedModel:
    """Fits, calibrates, profiles and saves a model. Equal inputs give an artifact of equal digest.

    Args:
        spec: the declared model.
        dataset_folder: what ``stk-ml features pull`` wrote.
        out: folder of the artifact; replaced as a whole when the new one is complete, untouched when this fails.
        spec_file: the model's file, copied into the artifact; default ``spec`` written out.
        code_dir: folder of the user's modules, for ``learner.estimator: module:function``.
        progress: told the stage and the share of it that is done, 0 to 1.

    Raises:
        UsageError: the learner or one of its parameters cannot be used.
        DataError: a column, the target or a split is not what the file says.
        StorageError: the training set cannot be read, or the disk refused.
        UntrustedTypeError: the estimator could not be loaded again.
    """
    tell = progress or (lambda stage, done: None)
    tell("read", 0.0)
    rows = _read(spec, Path(dataset_folder))
    preload = mlmodel.Preload()
    tell("fit", 0.0)
    learned = _learner(spec, code_dir).learn(spec.learner, rows.learning(spec), lambda done: tell("fit", done))
    tell("calibrate", 0.0)
    calibrator = calibrate(spec, learned.validation_scores, rows.target[rows.parts.validation])
    trained = TrainedModel(_document(spec, rows, learned, calibrator), learned.scorer)
    tell("profile", 0.0)
    scores = calibrator.apply(learned.validation_scores)
    reference = make_profile(rows.schema, rows.features, rows.encoded, rows.target, scores, rows.parts, rows.as_of)
    tell("save", 0.0)
    with _aside(Path(out)) as folder:
        _write(folder, spec, spec_file, trained, reference, take(rows.features, rows.parts.validation))
        metadata = {"name": spec.name, "problem": spec.problem}
        mlmodel.write(folder, preload.module(), estimator=learned.kind == "estimator", metadata=metadata)
        manifest.seal(folder)
        saved = _proven(folder, spec)
    tell("save", 1.0)
    return saved


@dataclass(frozen=True)
class _Rows:
    """The training set as it is learned from."""

    features: pa.Table
    encoded: pa.Table
    schema: FeatureSchema
    target: npt.NDArray[np.float64]
    parts: SplitParts
    as_of: Times | None

    def learning(self, spec: ModelSpec) -> LearningData:
        train, validation = self.parts.train, self.parts.validation
        return LearningData(
            problem=spec.problem,
            schema=self.schema,
            train=take(self.encoded, train),
            train_target=self.target[train],
            validation=take(self.encoded, validation),
            validation_target=self.target[validation],
        )

    def used(self) -> tuple[str, str]:
        """First and last as_of of the rows that fitted, stopped or calibrated the model; empty without time."""
        if self.as_of is None:
            return "", ""
        moments = self.as_of[np.concatenate([self.parts.train, self.parts.validation])]
        return iso(moments.min()), iso(moments.max())


def _read(spec: ModelSpec, folder: Path) -> _Rows:
    dataset, table = load_dataset(folder, roles=("feature", "as_of", "label", "label_time"))
    parts = split_dataset(spec, dataset, table)
    y = target(spec, dataset, table)
    if spec.problem == "binary" and len(np.unique(y[parts.train])) < 2:
        raise LabelError(
            f"all {len(parts.train)} training rows are of one class of {spec.data.target!r}",
            hint="train on a longer period",
        )
    features = table.select(dataset.role("feature"))
    schema = feature_schema(dataset, take(features, parts.train))
    return _Rows(features, schema.encode(features), schema, y, parts, times(dataset, table, "as_of"))


def _learner(spec: ModelSpec, code_dir: Path | None) -> Learner:
    if spec.learner.estimator == "lightgbm":
        return LightGbmLearner()
    return AutoLearner() if spec.learner.estimator == "auto" else EstimatorLearner(code_dir)


def _document(spec: ModelSpec, rows: _Rows, learned: Learned, calibrator: Any) -> ModelDocument:
    trained_from, trained_until = rows.used()
    return ModelDocument(
        format=1,
        name=spec.name,
        problem=spec.problem,
        kind=learned.kind,
        file=learned.scorer.file,
        objective=learned.objective,
        iterations=learned.iterations,
        parameters=learned.parameters,
        schema=rows.schema,
        calibrator=calibrator,
        trained_from=trained_from,
        trained_until=trained_until,
        rows=rows.parts.rows(),
    )


def _write(
    folder: Path, spec: ModelSpec, spec_file: Path | None, trained: TrainedModel, reference: Profile, rows: pa.Table
) -> None:
    """Writes the files that the digest covers."""
    (folder / trained.document.file).write_bytes(trained.scorer.dump())
    contracts.write(trained.document, folder / model.NAME)
    contracts.write(golden(trained, rows), folder / golden_rows.NAME)
    (folder / profile.NAME).write_bytes(msgspec.json.encode(reference, order="deterministic"))
    text = yaml.safe_dump(msgspec.to_builtins(spec), sort_keys=False).encode()
    (folder / "spec.yml").write_bytes(spec_file.read_bytes() if spec_file else text)


def _proven(folder: Path, spec: ModelSpec) -> TrainedModel:
    """The artifact as it will be loaded, after its golden rows gave the scores of the model in memory."""
    saved = TrainedModel.load(folder, threads=spec.learner.threads)
    difference = golden_rows.replay(saved, golden_rows.Golden.load(folder))
    if not difference <= TOLERANCE:
        raise ArtifactError(f"the saved model's scores differ from the fitted one's by {difference:g}")
    return saved


@contextmanager
def _aside(out: Path) -> Iterator[Path]:
    """A new folder beside ``out`` that takes its place when the block ends well, and goes away when it does not."""
    contracts.refuse_foreign(out, "manifest.json")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    except OSError as error:
        raise StorageError(f"{out} cannot be written: {error.strerror or error}") from error
    try:
        yield folder
        folder.chmod(0o755)
        if out.exists():
            old = folder.with_suffix(".old")
            out.replace(old)
            folder.replace(out)
            shutil.rmtree(old, ignore_errors=True)
        else:
            folder.replace(out)
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            f"{out} cannot be written: {error.strerror or error}", hint="is there space, and may you write there?"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
