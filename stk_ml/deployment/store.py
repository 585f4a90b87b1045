"""The model artifacts that an endpoint serves: its own copies, by digest, so that nothing changes under its workers."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path

from stk_ml.artifact import manifest
from stk_ml.errors import DeploymentError, IntegrityError


def put(models: Path, artifact: Path, digest: str) -> Path:
    """Copies an artifact to ``models/DIGEST``, checked; returns that folder. A sound copy that is there is kept.

    Raises:
        ArtifactError, IntegrityError: the artifact is not sound, or not the one of that digest.
        DeploymentError: the disk refused.
    """
    found = manifest.verify(artifact).digest
    if digest and found != digest:
        raise IntegrityError(f"{artifact} holds the model {found[:12]}, not {digest[:12]}")
    home = models / found
    if home.is_dir():
        with contextlib.suppress(IntegrityError):
            manifest.verify(home)
            return home
    aside = models / f".{found}.{os.getpid()}.tmp"
    try:
        models.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(artifact, aside)
        manifest.verify(aside)
        shutil.rmtree(home, ignore_errors=True)
        aside.replace(home)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(aside, ignore_errors=True)
        raise DeploymentError(
            f"the model {found[:12]} cannot be copied to {models}: {error}", hint="is there space?"
        ) from error
    return home


def sweep(models: Path, used: Collection[str]) -> None:
    """Removes the copies whose digests are not in use, and what a killed command left."""
    for folder in models.iterdir() if models.is_dir() else ():
        if folder.name not in used:
            shutil.rmtree(folder, ignore_errors=True)
