"""stk-ml deploy and endpoint with the real scoring app: what a person types, sees, and calls."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from endpoint_rig import kill, until
from small_model import spec, train

from stk_ml.artifact import manifest
from stk_ml.deployment import roller
from stk_ml.deployment.local import LocalEndpointManager
from stk_ml.deployment.rollout import RolloutPolicy
from stk_ml.settings import Settings
from stk_ml.telemetry.local import ParquetPredictionLog
from stk_ml.vault import keys

pytest.importorskip("fastapi", reason="pip install 'stk-ml[serving]'")
pytest.importorskip("uvloop", reason="pip install 'stk-ml[serving]'")
Stk = Callable[..., subprocess.CompletedProcess[str]]
TOOL = [sys.executable, "-m", "stk_ml"]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model, one that fares alike, and one whose scores are others."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "first": train(folder / "first"),
        "alike": train(folder / "alike", leaves=8),
        "other": train(folder / "other", later=2.5),
    }


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project whose endpoints end with the test."""
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "stk.toml").write_text('[project]\nname = "shop"\n[profile.laptop]\n')
    yield folder
    manager = LocalEndpointManager(Settings.load(folder, environ={}))
    for name in manager.names():
        manager.stop(name)


@pytest.fixture
def stk(project: Path) -> Stk:
    """Runs the command line in the project."""

    def run(*words: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([*TOOL, *map(str, words)], cwd=project, capture_output=True, text=True)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


class Callers:
    """Apps that score one parcel after another over kept connections; counts what they get."""

    def __init__(self, url: str, key: str, threads: int = 3) -> None:
        parts = urlsplit(url)
        self._at, self._key, self._ends = (str(parts.hostname), parts.port), key, threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(threads)]
        self.answers: Counter[tuple[int, str]] = Counter()
        self.lost = 0

    def _run(self, number: int) -> None:
        connection, sent = http.client.HTTPConnection(*self._at, timeout=10), 0
        while not self._ends.wait(0.002):
            sent += 1
            body = json.dumps([{"km": (sent * 37) % 600, "mode": ("air", "rail", "road")[sent % 3]}])
            head = {"content-type": "application/json", "x-api-key": self._key, "x-request-id": f"{number}-{sent}"}
            try:
                connection.request("POST", "/score", body, head)
                answer = connection.getresponse()
                found = json.loads(answer.read())
                self.answers[answer.status, found.get("model", {}).get("deployment", "")] += 1
            except (OSError, http.client.HTTPException):
                self.lost += 1
                connection.close()
        connection.close()

    def __enter__(self) -> Callers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()


def test_deploying_says_where_it_answers_and_the_printed_call_works(
    project: Path, stk: Stk, models: dict[str, Path]
) -> None:
    said = stk("deploy", models["first"]).stdout
    assert "traffic   v0 100%" in said
    call = re.search(r"try +(curl .*)", said)
    assert call
    if shutil.which("curl") is None:
        pytest.skip("apt-get install curl")
    text = call[1].replace("stk-ml", " ".join(TOOL))
    answer = json.loads(subprocess.run(["bash", "-c", text], cwd=project, capture_output=True, check=True).stdout)
    assert 0 < answer["predictions"][0] < 1
    assert answer["model"]["deployment"] == "v0"
    assert "answers every request of late-parcel already" in stk("deploy", models["first"]).stderr
    (project / ".stk" / "vault.json").stat()
    assert (project / ".stk" / "vault.json").stat().st_mode & 0o77 == 0


@pytest.mark.slow
def test_the_commands_of_an_endpoint(project: Path, stk: Stk, models: dict[str, Path]) -> None:
    assert "there are no endpoints yet" in stk("endpoint", "status").stdout
    stk("deploy", models["first"], "--endpoint", "parcels", "--workers", 2)
    stk("deploy", models["alike"], "--endpoint", "parcels")
    report = json.loads(stk("endpoint", "status", "parcels", "--json").stdout)
    names = [each["name"] for each in report["state"]["deployments"]]
    assert [each["traffic"] for each in report["state"]["deployments"]] == [0, 100]
    assert len(report["workers"]) == 2
    assert all(each["ready"] and 0 < each["memory"] < 200 * 2**20 for each in report["workers"])
    shown = stk("endpoint", "status").stdout
    assert report["url"] in shown
    assert names[1] in shown
    said = stk("endpoint", "traffic", f"{names[0]}=90", f"{names[1]}=10%").stdout
    assert f"{names[0]} 90%, {names[1]} 10%" in said
    assert f"{names[1]} 100%" in stk("endpoint", "promote", "parcels").stdout
    assert f"{names[0]} 100%" in stk("endpoint", "rollback").stdout
    assert "serves revision" in stk("endpoint", "logs", "--lines", 20).stdout
    assert "set" in stk("endpoint", "keys").stdout
    stk("endpoint", "stop")
    assert "does not run" in stk("endpoint", "status", code=1).stdout
    assert report["url"] in stk("endpoint", "start").stdout
    assert "is gone" in stk("endpoint", "delete", "parcels").stdout
    assert "name the endpoint" in stk("endpoint", "logs", code=2).stderr


@pytest.mark.slow
def test_a_key_is_shown_only_when_asked_and_can_be_replaced(project: Path, stk: Stk, models: dict[str, Path]) -> None:
    said = stk("deploy", models["first"])
    key = stk("endpoint", "keys", "--show", "primary").stdout.strip()
    assert len(key) == 43
    for words in (("keys",), ("status",), ("status", "--json"), ("logs",)):
        done = stk("endpoint", *words)
        assert key not in done.stdout + done.stderr
    assert key not in said.stdout + said.stderr
    stk("endpoint", "keys", "--regenerate", "primary")
    assert stk("endpoint", "keys", "--show", "primary").stdout.strip() not in (key, "")


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("endpoint", "traffic", "v1=ninety"), "'v1=ninety' is not DEPLOYMENT=PERCENT", "v3=90 v4=10"),
        (("endpoint", "status", "nothing"), "unknown endpoint 'nothing'", "stk-ml deploy MODEL makes one"),
        (("endpoint", "delete"), "the following arguments are required: NAME", "--help"),
        (("deploy", ".", "--canary", "0"), "do not rise to 100", "10,50,100"),
        (("deploy", ".", "--canary", "--shadow"), "not allowed with", "--help"),
        (("deploy", ".", "--steps", "a,b"), "are not whole numbers", "10,50,100"),
        (("deploy", ".", "--shadow", "--level", "0.9"), "no policy judges it", ""),
        (("deploy", ".", "--canary", "--latency-ratio", "0.5"), "latency_ratio above 1", ""),
    ],
)
def test_a_mistake_is_told_in_one_line_with_its_mend(stk: Stk, words: tuple[str, ...], message: str, hint: str) -> None:
    said = stk(*words, code=2).stderr
    assert message in said
    assert hint in said
    assert "Traceback" not in said


def test_a_bad_artifact_is_refused_before_anything_starts(
    project: Path, stk: Stk, models: dict[str, Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(models["first"], broken)
    (broken / "booster.txt").write_text("tree")
    assert "differs from the artifact's manifest" in stk("deploy", broken, code=1).stderr
    assert "there are no endpoints yet" in stk("endpoint", "status").stdout


@pytest.mark.slow
def test_a_canary_left_alone_is_gone_on_with_by_the_same_command(
    project: Path, stk: Stk, models: dict[str, Path]
) -> None:
    first = stk("deploy", models["first"], "--canary")
    assert "is the first deployment of late-parcel: it takes all traffic" in first.stderr
    left = stk("deploy", models["alike"], "--canary", 20, "--no-watch")
    assert "running at 20%" in left.stdout
    assert "nobody watches it" in left.stdout
    watching = subprocess.Popen(
        [*TOOL, "deploy", str(models["alike"]), "--canary", "30"], cwd=project, stderr=subprocess.PIPE, text=True
    )
    assert watching.stderr
    assert until(lambda: "goes on with the rollout that is running, at 20%" in watching.stderr.readline())
    stk("endpoint", "rollback")
    watching.communicate()
    assert watching.returncode == 1
    assert "rolled back; by hand" in stk("endpoint", "status").stdout


@pytest.fixture
def live(project: Path, models: dict[str, Path]) -> tuple[LocalEndpointManager, str, str]:
    """An endpoint of two real workers that write telemetry twice a second: its manager, URL and key."""
    command = (*TOOL, "serve", "--flush", "0.5", "--endpoint-folder")
    manager = LocalEndpointManager(Settings.load(project, environ={}), worker_command=command, seconds=30)
    digest = manifest.verify(models["first"]).digest
    url = manager.deploy("e", models["first"], "late-parcel", 1, digest, workers=2).url
    return manager, url, dict(keys.read(manager.vault, "e"))["primary"]


def load(manager: LocalEndpointManager, folder: Path, version: int, traffic: int) -> None:
    manager.deploy("e", folder, "late-parcel", version, manifest.verify(folder).digest, traffic=traffic)


@pytest.mark.parametrize(("model", "status"), [("alike", "promoted"), ("other", "rolled_back")])
def test_a_canary_under_real_traffic(
    project: Path, live: tuple[LocalEndpointManager, str, str], models: dict[str, Path], model: str, status: str
) -> None:
    manager, url, key = live
    load(manager, models[model], 2, traffic=0)
    # The machine's other work must not decide: this is about the whole way from a request to the decision.
    policy = RolloutPolicy((30, 100), 200, min_seconds=1, max_seconds=60, error_rate=0.1, latency_ratio=50.0)
    log = ParquetPredictionLog(project / ".stk" / "telemetry")
    with Callers(url, key) as callers:
        roller.begin(manager, "e", "v2", policy, now=time.time())
        ended = roller.run(manager, "e", log.observe, every=0.25)
    assert (ended.status, callers.lost) == (status, 0), ended.reason
    assert {code for code, _ in callers.answers} == {200}
    if status == "rolled_back":
        assert "standard deviations" in ended.reason
    shares = {each.name: each.traffic for each in manager.status("e").state.deployments}
    assert shares == ({"v1": 0, "v2": 100} if status == "promoted" else {"v1": 100, "v2": 0})


@pytest.mark.slow
def test_changes_under_load_fail_no_request_and_a_killed_worker_only_its_own(
    live: tuple[LocalEndpointManager, str, str], models: dict[str, Path]
) -> None:
    manager, url, _ = live
    with Callers(url, dict(keys.read(manager.vault, "e"))["secondary"]) as callers:
        load(manager, models["alike"], 2, traffic=20)
        manager.traffic("e", {"v1": 50, "v2": 50})
        keys.regenerate(manager.vault, "e", "primary")
        manager.promote("e")
        load(manager, models["other"], 3, traffic=100)
        manager.start("e", workers=3)
        manager.start("e", workers=2)
        assert callers.lost == 0
        kill(manager.status("e").workers[0].pid, signal.SIGKILL)
        assert until(lambda: sum(manager.status("e").restarts) == 1 and manager.status("e").ready)
        count = sum(callers.answers.values())
        assert until(lambda: sum(callers.answers.values()) > count + 50)
    assert callers.lost <= 3
    assert {code for code, _ in callers.answers} == {200}
    assert {name for _, name in callers.answers} == {"v1", "v2", "v3"}


@pytest.mark.slow
def test_registered_versions_are_deployed_by_name(project: Path, stk: Stk, models: dict[str, Path]) -> None:
    from stk_ml.registry.models import ModelRegistry

    settings = Settings.load(project, environ={})
    registry = ModelRegistry(settings.tracking_uri, settings.artifacts)
    for name in ("first", "alike"):
        registry.register(spec(), models[name])
    registry.promote("late-parcel", 1)
    assert "traffic   v1 100%" in stk("deploy", "late-parcel").stdout
    assert "traffic   v1 100%, v2 shadow" in stk("deploy", "late-parcel:2", "--shadow").stdout
    assert "unknown version of late-parcel '9'" in stk("deploy", "late-parcel:9", code=2).stderr
    report = json.loads(stk("deploy", "late-parcel:2", "--json").stdout)
    assert report["deployment"] == "v2"
    assert [each["version"] for each in report["endpoint"]["state"]["deployments"]] == [1, 2]
