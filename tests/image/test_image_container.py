"""The built image: small, nobody's root, nothing in it but the scorer; and it scores as the model's golden rows say."""

from __future__ import annotations

import re
import textwrap

import pytest
from image_rigs import CONFINED, MARK, UNWATCHED, Podman

pytestmark = pytest.mark.slow

LIMIT_MB = 700
#: Imports every module of what a scorer is made of, in the image.
IMPORTS = """
import importlib, pkgutil
for name in ("artifact", "identity", "serving", "telemetry", "vault"):
    package = importlib.import_module(f"stk_ml.{name}")
    for module in pkgutil.walk_packages(package.__path__, f"stk_ml.{name}."):
        if not module.name.endswith(".azure"):
            importlib.import_module(module.name)
"""


def test_it_is_small(podman: Podman, image: str) -> None:
    size = podman.inspect(image)["Size"] / 1e6
    print(f"image: {size:.0f} MB")
    assert size < LIMIT_MB


def test_its_configuration_is_what_an_orchestrator_relies_on(podman: Podman, image: str) -> None:
    about = podman.inspect(image)
    config, labels = about["Config"], about["Labels"]
    assert config["User"] == "10001:10001"
    assert config["Cmd"] == ["python", "-m", "stk_ml", "serve", "--host", "0.0.0.0", "--port", "5001"]
    assert config["ExposedPorts"] == {"5001/tcp": {}}
    assert config["StopSignal"] == "SIGTERM"
    assert "/health/live" in " ".join(about["Healthcheck"]["Test"])
    version = podman.shell(image, "stk-ml --version").stdout.split()[1]
    assert labels["org.opencontainers.image.version"] == version
    assert re.fullmatch(r"[0-9a-f]{7,40}(-dirty)?|unknown", labels["org.opencontainers.image.revision"])
    assert {"title", "description", "licenses"} <= {label.rpartition(".")[2] for label in labels}


def test_it_runs_as_nobody_in_particular_and_cannot_change_itself(podman: Podman, image: str) -> None:
    script = (
        "id -u; id -g; touch /opt/app/x || touch /opt/venv/x || touch /x || echo refused; grep Cap /proc/self/status"
    )
    said = podman.shell(image, script).stdout.split()
    assert said[:3] == ["10001", "10001", "refused"]
    assert set(said[4::2]) == {"0000000000000000"}
    written = podman.run(
        "run", "--rm", UNWATCHED, image, "sh", "-c", "touch /opt/app/x || touch /opt/venv/x || echo refused"
    )
    assert written.stdout.strip() == "refused"


def test_it_holds_no_compiler_no_pip_no_cache_no_leftover(podman: Podman, image: str) -> None:
    script = """
        for name in cc gcc g++ clang ld make curl wget pip pip3 git; do command -v $name; done
        python -c 'import pip' 2>/dev/null && echo pip
        find / -xdev \\( -name .cache -o -path /build -o -path '/opt/*.whl' -o -path '*/sklearn/tests' \\) 2>/dev/null
        find /var/lib/apt/lists /run/secrets -type f 2>/dev/null
    """
    assert podman.shell(image, script).stdout == ""


def test_bytecode_was_made_at_build_time(podman: Podman, image: str) -> None:
    script = """
        import importlib.util, pathlib, stk_ml, fastapi
        for package in (stk_ml, fastapi):
            files = list(pathlib.Path(package.__file__).parent.rglob("*.py"))
            assert files and all(pathlib.Path(importlib.util.cache_from_source(file)).exists() for file in files)
    """
    ran = podman.run("run", "--rm", *CONFINED, UNWATCHED, image, "python", "-c", textwrap.dedent(script))
    assert ran.stderr == ""


def test_how_packages_were_reached_is_not_in_it(podman: Podman, image: str) -> None:
    about = podman.run("history", "--no-trunc", image).stdout + str(podman.inspect(image))
    assert MARK not in about
    search = f"grep -rlsF {MARK} /opt /etc /root /home /run /tmp /usr /var; test -e /etc/pip.conf && echo pip.conf"
    assert podman.run("run", "--rm", "--user", "0", UNWATCHED, image, "sh", "-c", search, check=False).stdout == ""


def test_it_can_import_all_that_a_scorer_is_made_of(podman: Podman, image: str) -> None:
    ran = podman.run("run", "--rm", *CONFINED, UNWATCHED, image, "python", "-c", IMPORTS, check=False)
    assert ran.stderr == ""
