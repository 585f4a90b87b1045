"""What turns an encoded table into raw scores: a LightGBM booster or a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from stk_ml.artifact import estimator_file
from stk_ml.artifact.calibrator import expit
from stk_ml.artifact.schema import to_matrix
from stk_ml.errors import ArtifactError, ColumnContractError, UsageError

if TYPE_CHECKING:
    import pyarrow as pa

Array = npt.NDArray[np.float64]
_FLOAT32 = float(np.finfo(np.float32).max)


class Scorer(Protocol):
    """Scores rows; made by a learner or read from its file.

    Attributes:
        file: its name in the artifact.
    """

    file: str

    def raw(self, encoded: pa.Table) -> Array:
        """One score per row: an uncalibrated probability (binary), or a value."""

    def contributions(self, encoded: pa.Table) -> Array:
        """SHAP values, (rows, features + 1), the last column being the expected value; log-odds or target units."""

    def gains(self) -> Array:
        """Share of the split gain of each feature."""

    def dump(self) -> bytes:
        """The content of its file: the same bytes for the same model."""


class BoosterScorer:
    """A LightGBM booster.

    Args:
        booster: a ``lightgbm.Booster``.
        threads: for scoring; 0 for all cores.
    """

    file = "booster.txt"

    def __init__(self, booster: Any, threads: int = 0) -> None:
        self.booster, self.threads = booster, threads

    def raw(self, encoded: pa.Table) -> Array:
        """See :class:`Scorer`."""
        if not encoded.num_rows:
            return np.empty(0)
        return np.asarray(self.booster.predict(_whole(encoded), num_threads=self.threads), dtype=np.float64)

    def contributions(self, encoded: pa.Table) -> Array:
        """See :class:`Scorer`. TreeSHAP of Lundberg et al. 2018, computed by LightGBM."""
        if not encoded.num_rows:
            return np.empty((0, encoded.num_columns + 1))
        matrix = to_matrix(encoded)
        return np.asarray(self.booster.predict(matrix, pred_contrib=True, num_threads=self.threads), dtype=np.float64)

    def gains(self) -> Array:
        """See :class:`Scorer`."""
        gain = np.asarray(self.booster.feature_importance("gain"), dtype=np.float64)
        return gain / gain.sum() if gain.sum() else gain

    def dump(self) -> bytes:
        """See :class:`Scorer`. LightGBM's text format."""
        return str(self.booster.model_to_string()).encode()

    @classmethod
    def read(cls, file: Path, threads: int = 0) -> BoosterScorer:
        """The booster of a text file."""
        import lightgbm

        try:
            return cls(lightgbm.Booster(model_str=file.read_text("utf-8")), threads)
        except lightgbm.basic.LightGBMError as error:
            raise ArtifactError(f"{file} is not a LightGBM model: {error}") from error


class EstimatorScorer:
    """A fitted scikit-learn estimator that takes the float64 matrix, NaN for missing.

    Args:
        estimator: with ``predict_proba`` or ``decision_function`` (classifier), else ``predict``.
        classifier: whether its score is the probability of the second class.
    """

    file = "estimator.skops"

    def __init__(self, estimator: Any, classifier: bool) -> None:
        self.estimator, self.classifier = estimator, classifier

    def raw(self, encoded: pa.Table) -> Array:
        """See :class:`Scorer`."""
        if not encoded.num_rows:
            return np.empty(0)
        return self.raw_matrix(to_matrix(encoded), encoded.column_names)

    def raw_matrix(self, matrix: Array, names: Sequence[str]) -> Array:
        """As :meth:`raw`, of the matrix itself and the names of its columns.

        Raises:
            ColumnContractError: a number is too large for the estimator; forests work in float32.
        """
        try:
            return self._raw(matrix)
        except ValueError as error:
            large = np.argwhere(np.abs(matrix) > _FLOAT32)
            if not len(large):
                raise
            row, column = large[0]
            holds = f"column {names[column]!r} holds {matrix[row, column]:g}"
            raise ColumnContractError(
                f"{holds}; the model cannot take a number as large as that", hint=f"its numbers reach {_FLOAT32:.3g}"
            ) from error

    def _raw(self, matrix: Array) -> Array:
        if not self.classifier:
            return np.asarray(self.estimator.predict(matrix), dtype=np.float64).reshape(-1)
        if hasattr(self.estimator, "predict_proba"):
            return np.asarray(self.estimator.predict_proba(matrix), dtype=np.float64)[:, 1]
        return expit(np.asarray(self.estimator.decision_function(matrix), dtype=np.float64))

    def contributions(self, encoded: pa.Table) -> Array:
        """Not there: only tree ensembles of LightGBM have exact SHAP values here."""
        raise UsageError("SHAP values are there for LightGBM models only", hint="use permutation importance")

    def gains(self) -> Array:
        """Not there; see :meth:`contributions`."""
        raise UsageError("split gains are there for LightGBM models only", hint="use permutation importance")

    def dump(self) -> bytes:
        """See :class:`Scorer`. The skops format."""
        return estimator_file.dumps(self.estimator)

    @classmethod
    def read(cls, file: Path, classifier: bool) -> EstimatorScorer:
        """The estimator of a skops file, under our own allow-list."""
        return cls(estimator_file.loads(file.read_bytes()), classifier)


def _whole(table: pa.Table) -> pa.Table:
    """A table without zero-length chunks, which LightGBM's Arrow reader does not take."""
    return table.combine_chunks() if any(not len(chunk) for chunk in table.columns[0].chunks) else table
