"""A trained model: loaded from its folder after the seal was checked, and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stk_ml.artifact.calibrator import Calibrator
from stk_ml.artifact.document import NAME, ModelDocument, unseal
from stk_ml.artifact.schema import FeatureSchema, Unseen
from stk_ml.artifact.scorer import BoosterScorer, EstimatorScorer, Scorer
from stk_ml.contracts import Problem

__all__ = ["NAME", "ModelDocument", "Rows", "TrainedModel"]

#: Rows that are encoded and scored at a time, so that memory does not grow with the table.
_BATCH = 262_144

#: What a model scores.
Rows: TypeAlias = "pa.Table | Sequence[Mapping[str, Any]]"


class TrainedModel:
    """A model that scores rows.

    Attributes:
        document: its ``model.json``.
        digest: what it is, as one sha256; empty before it is sealed.
    """

    def __init__(self, document: ModelDocument, scorer: Scorer, digest: str = "") -> None:
        self.document, self.scorer, self.digest = document, scorer, digest

    @classmethod
    def load(cls, folder: str | Path, *, threads: int = 0) -> TrainedModel:
        """Checks the seal of an artifact and reads it.

        Args:
            folder: the artifact.
            threads: LightGBM's threads for scoring; 0 for all cores.

        Raises:
            ArtifactError: it is no artifact, or of another format.
            IntegrityError: a file of it differs from the manifest.
            UntrustedTypeError: the estimator holds a type outside our allow-list.
        """
        folder = Path(folder)
        document, digest = unseal(folder)
        scorer: Scorer
        if document.kind == "lightgbm":
            scorer = BoosterScorer.read(folder / document.file, threads)
        else:
            scorer = EstimatorScorer.read(folder / document.file, document.problem == "binary")
        return cls(document, scorer, digest)

    @property
    def name(self) -> str:
        """Name of the model."""
        return self.document.name

    @property
    def problem(self) -> Problem:
        """Binary or regression."""
        return self.document.problem

    @property
    def schema(self) -> FeatureSchema:
        """The columns that it takes."""
        return self.document.schema

    @property
    def features(self) -> list[str]:
        """Names of the columns that it takes, in order."""
        return self.schema.names

    @property
    def calibrator(self) -> Calibrator:
        """From raw score to probability."""
        return self.document.calibrator

    @property
    def kind(self) -> str:
        """Either lightgbm or estimator."""
        return self.document.kind

    @property
    def trained_from(self) -> str:
        """First as_of of the training rows, ISO 8601 with Z; empty without time."""
        return self.document.trained_from

    @property
    def trained_until(self) -> str:
        """Last as_of of the rows that fitted, stopped or calibrated it, ISO 8601 with Z; empty without time."""
        return self.document.trained_until

    def predict(self, data: Rows, *, unseen: Unseen = "missing") -> npt.NDArray[np.float64]:
        """One calibrated probability (binary) or value (regression) per row.

        Args:
            data: a table that holds the model's columns, and may hold others; or records with exactly these columns.
            unseen: what a category that training has not seen counts as: ``missing``, or an ``error``.

        Raises:
            ColumnContractError: a column is missing, of a wrong type, or holds an unseen category that is an error.
        """
        return self.calibrator.apply(self.raw(data, unseen=unseen))

    def raw(self, data: Rows, *, unseen: Unseen = "missing") -> npt.NDArray[np.float64]:
        """As :meth:`predict`, before calibration."""
        table = self._table(data)
        scores = np.empty(table.num_rows)
        for start in range(0, table.num_rows, _BATCH):
            encoded = self.schema.encode(table.slice(start, _BATCH), unseen=unseen)
            scores[start : start + _BATCH] = self.scorer.raw(encoded)
        return scores

    def contributions(self, data: Rows) -> npt.NDArray[np.float64]:
        """SHAP values: (rows, features + 1), the last column being the expected value. LightGBM only.

        They add up to the log-odds of the raw score (binary) or to the value.

        Raises:
            UsageError: the model is a scikit-learn estimator.
        """
        return self.scorer.contributions(self.schema.encode(self._table(data)))

    def gains(self) -> npt.NDArray[np.float64]:
        """Each feature's share of the split gain. LightGBM only, else UsageError."""
        return self.scorer.gains()

    def _table(self, data: Rows) -> pa.Table:
        return self.schema.select(data) if isinstance(data, pa.Table) else self.schema.from_records(data)
