"""Builds the image of the scoring app with podman or docker, whichever is there; Python's own library is enough.

    python environments/serving/build.py WHEEL [OPTION OF BUILD...]
    python environments/serving/build.py dist/stk_ml-0.1.0-py3-none-any.whl --tag stk-ml-serving

How pip reaches its packages on this machine (index, proxy, certificates) goes into the build as secrets, which no layer
of the image keeps. ENGINE names another engine than podman or docker.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CONTEXT = ("Dockerfile", ".dockerignore", "requirements.lock")
#: Settings of pip that say how packages are reached.
NETWORK = ("index-url", "extra-index-url", "proxy", "trusted-host", "timeout", "default-timeout")
CERTIFICATES = ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")


def pip_settings(listing: str) -> dict[str, str]:
    r"""What ``pip config list`` printed, as far as it says how packages are reached; the environment wins over files.

    Addresses on this machine's disk are left out: the build cannot see them.

    Example:
        >>> pip_settings(":env:.proxy='http://a'\nglobal.proxy='http://b'\nglobal.index-url='file:///x'\nglobal.quiet='1'")
        {'proxy': 'http://a'}
    """
    settings: dict[str, str] = {}
    for line in sorted(listing.splitlines(), reverse=True):  # global, then :env:
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        words = [word for word in str(ast.literal_eval(value or "''")).split() if not word.startswith("file:")]
        if key in NETWORK and words:
            settings[key] = " ".join(words)
    return settings


def secrets(folder: Path) -> dict[str, Path]:
    """The secrets of the build: ``pip``, its configuration, and ``ca``, the certificates that this machine trusts."""
    pip = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(pip, capture_output=True, text=True, check=False).stdout  # noqa: S603
    settings = pip_settings(listing)
    files = {"pip": folder / "pip.conf"}
    if (bundle := next(filter(None, map(os.environ.get, CERTIFICATES)), None)) and Path(bundle).is_file():
        files["ca"] = Path(bundle)
        settings["cert"] = "/run/secrets/ca"
    files["pip"].write_text("\n".join(["[global]", *(f"{key} = {value}" for key, value in settings.items()), ""]))
    return files


def revision() -> str:
    """The commit that is checked out, with ``-dirty`` where files differ from it; ``unknown`` outside a repository."""
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def main(wheel: Path, options: list[str]) -> int:
    """Lays out the context beside the secrets, in a folder that only its owner can read, and builds."""
    engine = os.environ.get("ENGINE") or shutil.which("podman") or shutil.which("docker")
    if engine is None:
        sys.exit("neither podman nor docker is installed: apt-get install podman runc")
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder, "context")
        context.mkdir()
        for file in (*(HERE / name for name in CONTEXT), wheel):
            shutil.copy(file, context)
        words = [engine, "build", "--build-arg", f"VERSION={wheel.name.split('-')[1]}"]
        words += ["--build-arg", f"REVISION={revision()}"]
        for name, file in secrets(Path(folder)).items():
            words += ["--secret", f"id={name},src={file}"]
        environ = {**os.environ, "BUILDAH_FORMAT": "docker"}  # podman's own format has no HEALTHCHECK
        return subprocess.run([*words, *options, context], env=environ, check=False).returncode  # noqa: S603


if __name__ == "__main__":
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_file():
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
