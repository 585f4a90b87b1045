"""The built image: small, nobody's root, nothing in it but the scorer; and it scores as the model's golden rows say."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import contract
import pyarrow.parquet as pq
import pytest
from image_rigs import CONFINED, MARK, UNWATCHED, Container, Podman, container

from stk_ml.model_spec import LearnerSpec

pytestmark = pytest.mark.slow

LIMIT_MB = 700
#: The image's own command on a free port.
COMMAND = ("python", "-m", "stk_ml", "serve", "--host", "127.0.0.1", "--port", "0", "--flush", "60")
#: Imports every module of what a scorer is made of, in the image.
IMPORTS = """
import importlib, pkgutil
for name in ("artifact", "deployment", "identity", "serving", "telemetry", "vault"):
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


@dataclass(frozen=True)
class Scorer:
    """A scoring container that is ready: its address, the headers that let a caller in, and its model's folder."""

    container: Container
    url: str
    headers: Mapping[str, str]
    folder: Path


Start = Callable[..., AbstractContextManager[Container]]


@pytest.fixture(scope="module")
def start(
    podman: Podman, image: str, artifact: Path, keys: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory
) -> Start:
    """Starts the scorer as AKS would: confined, model and keys mounted, on a free port."""

    def start(
        *options: str, model: Path = artifact, command: Sequence[str] = COMMAND
    ) -> AbstractContextManager[Container]:
        mounts = ["--volume", f"{model}:/var/model/1:ro", "--volume", f"{keys[0]}:/var/keys:ro"]
        words = [*CONFINED, *mounts, "--env", "STK_ML_VAULT=/var/keys/vault.json", *options]
        return container(podman, image, tmp_path_factory.mktemp("container") / "log.txt", words, command)

    return start


@pytest.fixture(scope="module")
def scorer(start: Start, artifact: Path, keys: tuple[Path, str]) -> Iterator[Scorer]:
    """A scorer of a LightGBM model, with API keys."""
    with start(UNWATCHED) as running:
        yield Scorer(running, running.listens(), {"x-api-key": keys[1]}, artifact)


@pytest.fixture(scope="module")
def forest(start: Start, train: Callable[..., Path]) -> Iterator[Scorer]:
    """A scorer of a scikit-learn model, open to everyone."""
    estimator = "sklearn.ensemble.HistGradientBoostingClassifier"
    folder = train(LearnerSpec(estimator=estimator, params={"max_iter": 5}, threads=1))
    with start(UNWATCHED, "--env", "STK_ML_AUTH=none", model=folder) as running:
        yield Scorer(running, running.listens(), {}, folder)


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_contract(check: contract.Check, scorer: Scorer) -> None:
    check(scorer.url, scorer.headers, scorer.folder)


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_contract_with_a_scikit_learn_model(check: contract.Check, forest: Scorer) -> None:
    check(forest.url, forest.headers, forest.folder)


def test_the_scorer_is_nobody_s_root_and_cannot_write_but_where_it_may(scorer: Scorer) -> None:
    running = scorer.container
    status = running.execute("cat", "/proc/1/status")
    assert re.search(r"^Uid:\s+10001\s+10001\s+10001\s+10001$", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE)
    places = "/ /opt/app /opt/venv /etc /run /var/tmp /var/model /var/model/1 /var/keys /tmp /var/stk"
    writable = running.execute(
        "sh", "-c", f"for place in {places}; do touch $place/x 2>/dev/null && echo $place; done; true"
    )
    assert writable.split() == ["/tmp", "/var/stk"]


def test_the_quick_scorer_was_compiled_for_it(scorer: Scorer) -> None:
    script = """
        from pathlib import Path
        from stk_ml.artifact.compiled import load
        assert load(Path("/var/model/1/booster.txt").read_text(), Path("/opt/cache/scorers"))
    """
    scorer.container.execute("python", "-c", textwrap.dedent(script))


def test_no_key_is_in_its_log_or_its_environment(scorer: Scorer) -> None:
    (key,) = scorer.headers.values()
    assert contract.ask(scorer.url, "POST", "/score", b"{", scorer.headers).status == 400
    assert key not in scorer.container.text
    assert key not in scorer.container.execute("cat", "/proc/1/environ")


def test_it_stops_at_once_and_its_telemetry_is_whole(
    start: Start, keys: tuple[Path, str], artifact: Path, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    telemetry = ("--volume", f"{tmp_path}:/var/telemetry", "--env", "STK_ML_TELEMETRY=/var/telemetry/log")
    with start(UNWATCHED, *telemetry) as running:
        answer = contract.ask(running.listens(), "POST", "/score", contract.records(artifact), {"x-api-key": keys[1]})
        assert running.stop() == 0, running.text  # 137 once it takes longer than 15 seconds
    files = list((tmp_path / "log").rglob("*.parquet"))
    assert any(answer.json["request_id"] in str(pq.read_table(file).to_pylist()) for file in files)


def test_several_workers_serve_and_stop_as_one(start: Start, keys: tuple[Path, str], artifact: Path) -> None:
    with start(UNWATCHED, command=(*COMMAND, "--workers", "2")) as running:
        contract.golden_rows_score_as_stored(running.listens(), {"x-api-key": keys[1]}, artifact)
        assert running.stop() == 0, running.text


def test_the_default_command_is_healthy(start: Start, podman: Podman) -> None:
    with start("--network", "none", command=()) as running:
        running.listens()
        podman.run("healthcheck", "run", running.name)
        look = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:5001/health/ready').status)"
        assert running.execute("python", "-c", look).strip() == "200"


def test_a_model_that_was_changed_is_not_served(start: Start, artifact: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    changed = shutil.copytree(artifact, tmp_path / "changed")
    with (changed / "booster.txt").open("a") as file:
        file.write(" ")
    with start(UNWATCHED, model=changed) as running:
        assert running.process.wait(20) == 1
        assert "booster.txt" in running.text
