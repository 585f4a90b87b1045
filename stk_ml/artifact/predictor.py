"""The one door to a model that is served: encoded rows in, calibrated scores out, at the speed of the machine.

:class:`stk_ml.artifact.model.TrainedModel` scores tables; this scores buffers of float64 that a decoder has filled: a
category is the code of :class:`stk_ml.artifact.schema.FeatureSchema`, -1 when training has not seen it, NaN is missing.
Importing this module costs numpy and msgspec; a LightGBM model loads neither pyarrow nor the lightgbm package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from stk_ml.artifact import compiled
from stk_ml.artifact.calibrator import EPSILON, Calibrator
from stk_ml.artifact.compiled import CompiledBooster
from stk_ml.artifact.document import NAME, ModelDocument, unseal
from stk_ml.artifact.golden import Golden
from stk_ml.artifact.native import NativeBooster
from stk_ml.artifact.schema import FeatureSchema
from stk_ml.artifact.scorer import EstimatorScorer
from stk_ml.errors import ArtifactError, UsageError

Array = npt.NDArray[np.float64]
#: What does the work.
Kind = Literal["compiled", "lightgbm", "estimator"]


class Engine(Protocol):
    """What turns encoded rows into raw scores.

    Attributes:
        kind: what does the work.
        buffer: float64 (features,): the row that ``score`` scores.
    """

    kind: Kind
    buffer: Array

    def score(self) -> float:
        """The raw score of the buffer; for one thread."""

    def many(self, matrix: Array) -> Array:
        """The raw score of each row; from any thread."""

    def contributions(self, matrix: Array) -> Array:
        """SHAP values (rows, features + 1)."""


class Predictor:
    """A model, loaded to be served.

    Attributes:
        document: its ``model.json``.
        digest: of the artifact.
        schema: the columns that it takes.
        kind: what scores it: ``compiled``, ``lightgbm`` or ``estimator``.
        buffer: float64 (features,), filled in place before :attr:`single`; belongs to one thread.
        single: a function of no argument: the calibrated score of the buffer.
    """

    def __init__(self, folder: Path, document: ModelDocument, digest: str, engine: Engine) -> None:
        self.folder, self.document, self.digest = folder, document, digest
        self.schema: FeatureSchema = document.schema
        self._engine = engine
        self.kind, self.buffer = engine.kind, engine.buffer
        self.single: Callable[[], float] = _calibrated(engine.score, document.calibrator)

    @classmethod
    def load(
        cls, folder: str | Path, *, cache: Path | None = None, compiled: bool = True, threads: int = 1
    ) -> Predictor:
        """Checks the seal of an artifact and loads it.

        Args:
            folder: the artifact.
            cache: where :func:`stk_ml.artifact.compiled.build` has been; None for LightGBM's own code.
            compiled: whether to use the compiled form where it is there and gives equal scores.
            threads: LightGBM's for :meth:`many`; 0 for all cores. The compiled form uses the thread that calls it.

        Raises:
            ArtifactError: it is no artifact, of another format, or its model does not fit its columns.
            IntegrityError: a file of it differs from the manifest.
            UntrustedTypeError: the estimator holds a type outside our allow-list.
        """
        folder = Path(folder)
        document, digest = unseal(folder)
        return cls(folder, document, digest, _engine(folder, document, cache if compiled else None, threads))

    def many(self, matrix: Array) -> Array:
        """The calibrated score of each row of a (rows, features) matrix; from any thread.

        Raises:
            ColumnContractError: a number is too large for a scikit-learn estimator; :attr:`single` raises it too.
        """
        return self.document.calibrator.apply(self._engine.many(matrix))

    def contributions(self, matrix: Array) -> Array:
        """SHAP values (rows, features + 1), the last column being the expected value; log-odds or target units.

        Raises:
            UsageError: the model is a scikit-learn estimator.
        """
        return self._engine.contributions(matrix)

    def replay(self) -> float:
        """Scores the golden rows, one by one and all at once; largest absolute difference to the stored scores."""
        golden = Golden.load(self.folder)
        matrix, expected = encode(self.schema, golden.records), np.array(golden.scores)
        each = np.empty(len(matrix))
        for place, row in enumerate(matrix):
            self.buffer[:] = row
            each[place] = self.single()
        return float(np.abs(np.concatenate([each - expected, self.many(matrix) - expected])).max(initial=0.0))


def encode(schema: FeatureSchema, records: Sequence[Mapping[str, Any]]) -> Array:
    """Well-formed JSON records as a matrix: NaN for what is missing, -1 for a category that training has not seen.

    Example:
        >>> from stk_ml.artifact.schema import FeatureField
        >>> schema = FeatureSchema((FeatureField("km", "number"), FeatureField("kind", "category", ("air", "road"))))
        >>> encode(schema, [{"km": 3, "kind": "road"}, {"km": None, "kind": "sea"}]).tolist()
        [[3.0, 1.0], [nan, -1.0]]
    """
    matrix = np.empty((len(records), len(schema.fields)))
    for column, field in enumerate(schema.fields):
        codes = {value: float(code) for code, value in enumerate(field.categories)}
        for row, record in enumerate(records):
            value = record[field.name]
            if value is None or value != value:
                matrix[row, column] = math.nan
            else:
                matrix[row, column] = codes.get(str(value), -1.0) if field.type == "category" else float(value)
    return matrix


class _Booster:
    """LightGBM's own code, or the compiled form of the same model."""

    def __init__(self, booster: NativeBooster, compiled: CompiledBooster | None, threads: int) -> None:
        self._booster, self._compiled, self._threads = booster, compiled, threads
        self._row = (compiled or booster).row_scorer()
        self.kind: Kind = "compiled" if compiled else "lightgbm"
        self.buffer, self.score = self._row.buffer, self._row.score

    def many(self, matrix: Array) -> Array:
        return self._compiled.many(matrix) if self._compiled else self._booster.many(matrix, threads=self._threads)

    def contributions(self, matrix: Array) -> Array:
        return self._booster.contributions(matrix, threads=self._threads)


class _Estimator:
    """A scikit-learn estimator, which knows NaN and not -1."""

    kind: Kind = "estimator"

    def __init__(self, scorer: EstimatorScorer, schema: FeatureSchema) -> None:
        self._scorer, self._names, self._categorical = scorer, schema.names, schema.categorical
        self.buffer = np.zeros(len(schema.fields))

    def score(self) -> float:
        return float(self.many(self.buffer[np.newaxis])[0])

    def many(self, matrix: Array) -> Array:
        if not len(matrix):
            return np.empty(0)
        matrix = np.array(matrix, dtype=np.float64)
        codes = matrix[:, self._categorical]
        matrix[:, self._categorical] = np.where(codes < 0, np.nan, codes)
        return self._scorer.raw_matrix(matrix, self._names)

    def contributions(self, matrix: Array) -> Array:
        raise UsageError("SHAP values are there for LightGBM models only")


def _engine(folder: Path, document: ModelDocument, cache: Path | None, threads: int) -> Engine:
    file, schema = folder / document.file, document.schema
    if document.kind == "estimator":
        return _Estimator(EstimatorScorer.read(file, document.problem == "binary"), schema)
    booster = NativeBooster.read(file)
    if booster.features != len(schema.fields):
        raise ArtifactError(f"{file} takes {booster.features} columns, {NAME} names {len(schema.fields)}")
    if cache is None:
        return _Booster(booster, None, threads)
    rows = encode(schema, Golden.load(folder).records)
    return _Booster(booster, compiled.load(file.read_text("utf-8"), cache, booster=booster, rows=rows), threads)


def _calibrated(score: Callable[[], float], calibrator: Calibrator) -> Callable[[], float]:
    """One calibrated score, in plain floats: Calibrator.apply takes 20 times as long for one number."""
    if calibrator.kind == "sigmoid":
        (slope,), (intercept,) = calibrator.parameters["slope"], calibrator.parameters["intercept"]
        low, high, log, log1p, tanh = EPSILON, 1 - EPSILON, math.log, math.log1p, math.tanh

        def sigmoid() -> float:
            inside = min(max(score(), low), high)
            return 0.5 * (1.0 + tanh(0.5 * (slope * (log(inside) - log1p(-inside)) + intercept)))

        return sigmoid
    if calibrator.kind == "isotonic":
        x, y = np.array(calibrator.parameters["x"]), np.array(calibrator.parameters["y"])
        return lambda: float(np.interp(score(), x, y))
    return score
