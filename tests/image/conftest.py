"""The image, built once from this checkout on a base that a Debian mirror gives, and a model to mount into it."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from image_rigs import HERE, INSTALL, MARK, REPOSITORY, Podman

from stk_ml.model_spec import LearnerSpec
from stk_ml.training.fit import fit
from stk_ml.vault import keys as endpoint_keys
from stk_ml.vault.local import FileSecretStore

sys.path += [str(HERE.parent / "serving"), str(HERE.parent / "training")]  # the contract, and a training set
from make_dataset import parcels, spec, write

BASE = "localhost/stk-ml-base:bookworm"


@pytest.fixture(scope="session")
def podman() -> Podman:
    """Podman, where it can run containers."""
    missing = [program for program in ("podman", "runc") if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: {INSTALL}")
    if os.geteuid() != 0:
        pytest.skip(f"containers with other users' files need root: sudo make test, after {INSTALL}")
    podman = Podman()
    if (info := podman.run("info", check=False)).returncode:
        pytest.skip(f"podman cannot run here ({info.stderr.strip()[-200:]}); on a machine with containers: {INSTALL}")
    return podman


@pytest.fixture(scope="session")
def base_image(podman: Podman) -> str:
    """The image to build on: BASE_IMAGE, for machines that can pull, else one made here."""
    if given := os.environ.get("BASE_IMAGE"):
        return given
    if podman.run("image", "exists", BASE, check=False).returncode:
        if shutil.which("debootstrap") is None:
            pytest.skip(f"no base image; {INSTALL}, or BASE_IMAGE=python:3.11-slim-bookworm where images can be pulled")
        made = podman.call("sh", HERE / "base_image.sh", BASE, check=False)
        if made.returncode:
            pytest.skip(f"debootstrap failed, is a Debian mirror in reach (DEBIAN_MIRROR)? {made.stdout[-300:]}")
    if (tried := podman.run("run", "--rm", BASE, "true", check=False)).returncode:
        pytest.skip(f"podman cannot run containers here: {tried.stderr.strip()[-200:]}")
    return BASE


@pytest.fixture(scope="session")
def image(podman: Podman, base_image: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Id of the image, built as `make image` builds it. Layers of older runs are kept for a week."""
    folder = tmp_path_factory.mktemp("image")
    wheel = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", str(folder), str(REPOSITORY)]
    podman.call(*wheel)
    settings = podman.call(sys.executable, "-m", "pip", "config", "list").stdout
    hosts = re.findall(r"^\S+\.trusted-host='(.*)'$", settings, re.MULTILINE)
    podman.environ["PIP_TRUSTED_HOST"] = " ".join([*hosts, MARK])
    script = REPOSITORY / "environments/serving/build.py"
    options = ["--tag", "localhost/stk-ml-serving:test", "--iidfile", str(folder / "id")]
    podman.call(sys.executable, script, *folder.glob("*.whl"), *options, "--build-arg", f"BASE_IMAGE={base_image}")
    podman.run("image", "prune", "--force", "--filter", "until=168h")
    return (folder / "id").read_text().strip()


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Trains a small model of late parcels and gives its folder, which every user may read."""
    data = write(tmp_path_factory.mktemp("dataset"), parcels())

    def train(learner: LearnerSpec | None = None) -> Path:
        folder = tmp_path_factory.mktemp("model") / "artifact"
        fit(spec(learner), data, folder)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        return folder

    return train


@pytest.fixture(scope="session")
def artifact(train: Callable[..., Path]) -> Path:
    """The folder of a LightGBM model."""
    return train()


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with the vault that holds the model's API keys, owned by the image's user; and one of the keys."""
    folder = tmp_path_factory.mktemp("keys")
    store = FileSecretStore(folder / "vault.json")
    endpoint_keys.ensure(store, "late-parcel")
    for path in (folder, *folder.iterdir()):
        os.chown(path, 10001, 10001)
    return folder, dict(endpoint_keys.read(store, "late-parcel"))["primary"]
