"""``model.json``: what scoring needs beside the trees or the estimator. Costs numpy and msgspec to import, no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stk_ml import contracts
from stk_ml.artifact import manifest
from stk_ml.artifact.calibrator import Calibrator
from stk_ml.artifact.schema import FeatureSchema
from stk_ml.contracts import Problem
from stk_ml.errors import ArtifactError

NAME = "model.json"
_FORMAT = 1


@dataclass(frozen=True)
class ModelDocument:
    """``model.json``: all that scoring needs beside the trees or the estimator.

    Attributes:
        format: version of this document.
        name: of the model.
        problem: binary or regression.
        kind: what ``file`` holds: a LightGBM booster as text, or a scikit-learn estimator as skops.
        file: name of that file.
        objective: LightGBM's objective, or the class of the estimator.
        iterations: number of boosting rounds; 0 for an estimator.
        parameters: of the learner, as it was fitted.
        schema: the columns, in order; a category's code is its place in ``categories``.
        calibrator: numbers from raw score to probability.
        trained_from, trained_until: first and last as_of of the rows that fitted, stopped or calibrated it, ISO 8601
            with Z; empty without time.
        rows: number of rows per split.
    """

    format: int
    name: str
    problem: Problem
    kind: Literal["lightgbm", "estimator"]
    file: str
    objective: str
    iterations: int
    parameters: Mapping[str, Any]
    schema: FeatureSchema
    calibrator: Calibrator
    trained_from: str
    trained_until: str
    rows: Mapping[str, int]


def unseal(folder: Path) -> tuple[ModelDocument, str]:
    """Checks the seal of an artifact, then reads its document.

    Returns:
        The document, and the digest of the artifact.

    Raises:
        ArtifactError: it is no artifact, or of another format.
        IntegrityError: a file of it differs from the manifest.
    """
    seal = manifest.verify(folder)
    document = contracts.read(ModelDocument, folder / NAME)
    if document.format != _FORMAT:
        raise ArtifactError(f"{folder / NAME} is of format {document.format}; this stk-ml reads {_FORMAT}")
    if document.file not in seal.files:
        raise ArtifactError(f"{folder / NAME} names the file {document.file!r}, which the artifact does not hold")
    return document, seal.digest
