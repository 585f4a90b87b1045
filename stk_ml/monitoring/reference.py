"""What a served model is compared with: the profile in its artifact, and how much attention it gives each column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stk_ml.artifact.document import unseal
from stk_ml.artifact.model import ModelDocument, TrainedModel
from stk_ml.artifact.profile import Profile


@dataclass(frozen=True)
class Reference:
    """A model as monitoring sees it.

    Attributes:
        document: its ``model.json``.
        profile: its reference.
        weights: share of the attention per column; adds up to 1.
    """

    document: ModelDocument
    profile: Profile
    weights: Mapping[str, float]

    @classmethod
    def load(cls, folder: str | Path) -> Reference:
        """Of an artifact, whose seal is checked.

        Raises:
            ArtifactError, IntegrityError, StorageError: it is not sound, or holds no profile.
        """
        document, _ = unseal(Path(folder))
        return cls(document, Profile.load(folder), _weights(Path(folder), document))


def _weights(folder: Path, document: ModelDocument) -> dict[str, float]:
    """Split gains of a booster; equal shares for an estimator, which says nothing of the kind."""
    names = document.schema.names
    if document.kind != "lightgbm":
        return dict.fromkeys(names, 1 / max(len(names), 1))
    gains = TrainedModel.load(folder, threads=1).gains()
    return dict(zip(names, gains.tolist(), strict=True))
