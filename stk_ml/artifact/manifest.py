"""The seal of a model artifact: sha256 of every file, and one digest for what the model is.

The digest covers only what is the same for the same inputs (model, profile, golden rows, model file), not MLflow's
``MLmodel``, which holds times and random ids. A manifest is no signature: who can write the folder can write a new one.
The registry keeps the digest apart from the folder.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stk_ml import contracts
from stk_ml.errors import ArtifactError, IntegrityError, StorageError

NAME = "manifest.json"
#: What the digest covers, of the files that are there.
DETERMINISTIC = ("booster.txt", "estimator.skops", "golden.json", "model.json", "profile.json", "spec.yml")
#: MLflow writes this beside a model that it has downloaded.
_TOLERATED = ("registered_model_meta",)
_VERSION = 1


@dataclass(frozen=True)
class Manifest:
    """``manifest.json``.

    Attributes:
        version: of the layout of this file.
        digest: sha256 over the names and hashes of the deterministic files.
        files: sha256 of every other file, by its path relative to the folder.
    """

    version: int
    digest: str
    files: Mapping[str, str]


def seal(folder: Path) -> str:
    """Writes the manifest of a finished artifact and returns its digest.

    Raises:
        IntegrityError: the folder holds a symbolic link.
        StorageError: the disk refused.
    """
    files = {name: _sha256(folder, name) for name in _list(folder) if name != NAME}
    digest = _digest(files)
    contracts.write(Manifest(_VERSION, digest, files), folder / NAME)
    return digest


def verify(folder: Path) -> Manifest:
    """Checks every file of an artifact against its manifest; nothing is loaded before this has passed.

    Raises:
        ArtifactError: the folder is no artifact, or its manifest is of another version.
        IntegrityError: a file differs, is missing, is not listed, is a symbolic link or lies outside the folder.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     folder = Path(name)
        ...     _ = (folder / "model.json").write_text("{}")
        ...     digest = seal(folder)
        ...     same = verify(folder).digest == digest
        ...     _ = (folder / "model.json").write_text("[]")
        ...     try:
        ...         _ = verify(folder)
        ...     except IntegrityError as error:
        ...         same, "model.json" in str(error)
        (True, True)
    """
    if not (folder / NAME).is_file() or (folder / NAME).is_symlink():
        raise ArtifactError(f"{folder} is not a model artifact: it holds no {NAME}", hint="give the folder of a model")
    try:
        manifest = contracts.read(Manifest, folder / NAME)
    except StorageError as error:
        raise IntegrityError(f"{folder / NAME} is damaged: {error}") from error
    if manifest.version != _VERSION:
        raise ArtifactError(f"{folder / NAME} is of version {manifest.version}; this stk-ml reads version {_VERSION}")
    for name in manifest.files:
        if not _inside(name):
            raise IntegrityError(f"{folder / NAME} lists {name!r}, which is outside the artifact")
    present = set(_list(folder)) - {NAME, *_TOLERATED}
    for name in sorted(present - set(manifest.files)):
        raise IntegrityError(f"{folder / name} is not listed in the artifact's manifest")
    for name, expected in sorted(manifest.files.items()):
        if name not in present:
            raise IntegrityError(f"{folder / name} is missing; the artifact's manifest lists it")
        if _sha256(folder, name) != expected:
            raise IntegrityError(
                f"{folder / name} differs from the artifact's manifest", hint="fetch the model again from the registry"
            )
    if _digest(manifest.files) != manifest.digest:
        raise IntegrityError(f"the digest in {folder / NAME} is not that of the files it lists")
    return manifest


def _digest(files: Mapping[str, str]) -> str:
    lines = "".join(f"{files[name]}  {name}\n" for name in DETERMINISTIC if name in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _sha256(folder: Path, name: str) -> str:
    try:
        with (folder / name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise StorageError(f"{folder / name} cannot be read: {error.strerror or error}") from error


def _list(folder: Path) -> list[str]:
    """Relative paths of all files below a folder, sorted. Refuses links: they reach outside of what was sealed."""
    names = []
    for where, folders, files in os.walk(folder):
        for entry in (Path(where) / name for name in (*folders, *files)):
            if entry.is_symlink() or not (entry.is_dir() or entry.is_file()):
                raise IntegrityError(f"{entry} is a link or no plain file; an artifact holds plain files only")
        names += [(Path(where) / name).relative_to(folder).as_posix() for name in files]
    return sorted(names)


def _inside(name: str) -> bool:
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\\" not in name
