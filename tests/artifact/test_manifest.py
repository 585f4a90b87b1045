"""The seal: what is changed, missing, added or linked is refused before anything is loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stk_ml.artifact import manifest
from stk_ml.errors import ArtifactError, IntegrityError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, text in {"model.json": "{}", "booster.txt": "tree", "MLmodel": "flavors: {}"}.items():
        (folder / name).write_text(text)
    manifest.seal(folder)
    return folder


def test_a_sealed_folder_is_verified_and_keeps_its_digest_anywhere(folder: Path, tmp_path: Path) -> None:
    digest = manifest.verify(folder).digest
    moved = folder.rename(tmp_path / "elsewhere")
    assert manifest.verify(moved).digest == digest


def test_the_digest_does_not_depend_on_what_mlflow_writes(folder: Path) -> None:
    before = manifest.verify(folder).digest
    (folder / "MLmodel").write_text("another time and id")
    assert manifest.seal(folder) == before


@pytest.mark.parametrize("name", ["model.json", "booster.txt", "MLmodel"])
def test_one_flipped_bit_is_refused_by_name(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[0] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(IntegrityError, match=f"{name} differs"):
        manifest.verify(folder)


def test_a_missing_file_is_refused_by_name(folder: Path) -> None:
    (folder / "booster.txt").unlink()
    with pytest.raises(IntegrityError, match=r"booster\.txt is missing"):
        manifest.verify(folder)


@pytest.mark.parametrize("name", ["python_model.pkl", "code/evil.py"])
def test_a_file_that_is_not_listed_is_refused(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    with pytest.raises(IntegrityError, match="is not listed"):
        manifest.verify(folder)


def test_what_mlflow_adds_to_a_download_is_tolerated(folder: Path) -> None:
    (folder / "registered_model_meta").write_text("model_name: m")
    manifest.verify(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "..\\b"])
def test_a_manifest_that_lists_a_path_outside_is_refused(folder: Path, name: str) -> None:
    document = json.loads((folder / manifest.NAME).read_text())
    document["files"][name] = "0" * 64
    (folder / manifest.NAME).write_text(json.dumps(document))
    with pytest.raises(IntegrityError, match="outside the artifact"):
        manifest.verify(folder)


def test_links_are_refused_when_sealing_and_when_verifying(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "model.json"
    target.write_text("{}")
    (folder / "model.json").unlink()
    (folder / "model.json").symlink_to(target)
    with pytest.raises(IntegrityError, match=r"model\.json is a link"):
        manifest.verify(folder)
    with pytest.raises(IntegrityError, match=r"model\.json is a link"):
        manifest.seal(folder)


def test_a_linked_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (folder / "code").symlink_to(tmp_path / "other")
    with pytest.raises(IntegrityError, match="code is a link"):
        manifest.verify(folder)


def test_a_manifest_with_another_digest_or_version_is_refused(folder: Path) -> None:
    document = json.loads((folder / manifest.NAME).read_text())
    (folder / manifest.NAME).write_text(json.dumps({**document, "digest": "0" * 64}))
    with pytest.raises(IntegrityError, match="the digest in"):
        manifest.verify(folder)
    (folder / manifest.NAME).write_text(json.dumps({**document, "version": 99}))
    with pytest.raises(ArtifactError, match="version 99"):
        manifest.verify(folder)


def test_a_damaged_or_absent_manifest_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / manifest.NAME).write_text('{"version": 1, "dig')
    with pytest.raises(IntegrityError, match="is damaged"):
        manifest.verify(folder)
    with pytest.raises(ArtifactError, match="not a model artifact"):
        manifest.verify(tmp_path)
