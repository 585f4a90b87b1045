"""Endpoints as their commands change them, with real supervisors and stand-in workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from endpoint_rig import WORKER, ask, kill, until

from stk_ml.deployment import locks
from stk_ml.deployment.local import LocalEndpointManager
from stk_ml.errors import DeploymentError, IntegrityError, UnknownNameError, UsageError
from stk_ml.settings import Settings
from stk_ml.vault import keys

Artifact = Callable[..., tuple[Path, str]]
IDS = [f"request-{number}" for number in range(200)]


def deploy(manager: LocalEndpointManager, artifact: Artifact, version: int, *marks: str, **options: object) -> str:
    folder, digest = artifact(f"model-{version}", *marks)
    return manager.deploy("e", folder, "m", version, digest, **options).url  # type: ignore[arg-type]


def shares(manager: LocalEndpointManager) -> dict[str, int]:
    return {each.name: each.traffic for each in manager.status("e").state.deployments}


def models(manager: LocalEndpointManager) -> set[str]:
    return {path.name for path in manager.folder("e").models.iterdir()}


def test_the_first_deployment_answers_everyone_and_has_keys(manager: LocalEndpointManager, artifact: Artifact) -> None:
    folder, digest = artifact("one")
    told: list[str] = []
    report = manager.deploy("e", folder, "m", 3, digest, workers=2, progress=told.append)
    assert ask(report.url)["deployment"] == "v3"
    assert report.ready
    assert len(report.workers) == 2
    assert [name for name, _ in keys.read(manager.vault, "e")] == ["primary", "secondary"]
    assert Path(report.state.deployments[0].folder).is_relative_to(report.folder)
    assert told
    assert manager.names() == ["e"]


def test_the_next_one_takes_over_without_a_failed_request_and_can_be_rolled_back(
    manager: LocalEndpointManager, artifact: Artifact
) -> None:
    url = deploy(manager, artifact, 1, workers=2)
    answers: list[str] = []
    ends = threading.Event()

    def load() -> None:
        while not ends.is_set():
            answers.append(ask(url)["deployment"])

    asking = threading.Thread(target=load)
    asking.start()
    try:
        deploy(manager, artifact, 2)
        assert shares(manager) == {"v1": 0, "v2": 100}
        assert ask(url)["deployment"] == "v2"
        manager.rollback("e")
        assert ask(url)["deployment"] == "v1"
        manager.promote("e")
        assert ask(url)["deployment"] == "v2"
    finally:
        ends.set()
        asking.join()
    assert set(answers) == {"v1", "v2"}


def test_traffic_is_split_by_request_id_alike_by_every_worker(
    manager: LocalEndpointManager, artifact: Artifact
) -> None:
    url = deploy(manager, artifact, 1, workers=2)
    deploy(manager, artifact, 2, traffic=30)
    first = [ask(url, each)["deployment"] for each in IDS]
    assert first == [ask(url, each)["deployment"] for each in IDS]
    assert 30 < first.count("v2") < 90


def test_models_that_are_no_longer_served_are_removed(manager: LocalEndpointManager, artifact: Artifact) -> None:
    for version in (1, 2, 3):
        deploy(manager, artifact, version)
    assert shares(manager) == {"v2": 0, "v3": 100}
    assert len(models(manager)) == 2
    manager.delete("e", "v2")
    assert shares(manager) == {"v3": 100}
    assert len(models(manager)) == 1


def test_a_shadow_is_loaded_and_answers_nobody(manager: LocalEndpointManager, artifact: Artifact) -> None:
    url = deploy(manager, artifact, 1)
    deploy(manager, artifact, 2, shadow=True)
    assert shares(manager) == {"v1": 100, "v2": 0}
    assert manager.status("e").state.deployments[1].shadow
    assert {ask(url, each)["deployment"] for each in IDS[:50]} == {"v1"}
    deploy_again = manager.folder("e").state().deployments[1]
    manager.deploy("e", Path(deploy_again.folder), "m", 2, deploy_again.digest)
    assert not manager.status("e").state.deployments[1].shadow
    assert shares(manager) == {"v1": 0, "v2": 100}


def test_a_first_shadow_is_refused_and_leaves_nothing(manager: LocalEndpointManager, artifact: Artifact) -> None:
    with pytest.raises(UsageError, match="nothing to shadow"):
        deploy(manager, artifact, 1, shadow=True)
    assert manager.names() == []


def test_a_model_that_a_worker_refuses_is_taken_back(manager: LocalEndpointManager, artifact: Artifact) -> None:
    url = deploy(manager, artifact, 1, workers=2)
    before = manager.status("e").state
    with pytest.raises(DeploymentError, match="cannot serve it: v2 refuses to be loaded") as caught:
        deploy(manager, artifact, 2, "refuses")
    assert "worker-" in caught.value.hint
    after = manager.status("e").state
    assert after.deployments == before.deployments
    assert after.revision == before.revision + 2
    assert len(models(manager)) == 1
    assert until(lambda: manager.status("e").ready)
    assert ask(url)["deployment"] == "v1"
    deploy(manager, artifact, 3)
    assert shares(manager) == {"v1": 0, "v3": 100}


def test_a_model_that_kills_its_workers_is_taken_back(manager: LocalEndpointManager, artifact: Artifact) -> None:
    url = deploy(manager, artifact, 1)
    with pytest.raises(DeploymentError, match=r"exited with code 3 again and again after 'cannot go on'"):
        deploy(manager, artifact, 2, "crashes")
    assert shares(manager) == {"v1": 100}
    assert until(lambda: manager.status("e").ready)
    assert ask(url)["deployment"] == "v1"


def test_a_model_that_never_gets_ready_is_taken_back(
    manager: LocalEndpointManager, artifact: Artifact, tmp_path: Path
) -> None:
    url = deploy(manager, artifact, 1)
    settings = Settings.load(tmp_path / "project", environ={})
    hasty = LocalEndpointManager(settings, worker_command=WORKER, seconds=1.0)
    with pytest.raises(DeploymentError, match="only 0 of 1 workers serve it after 1 s"):
        deploy(hasty, artifact, 2, "never")
    assert shares(manager) == {"v1": 100}
    assert ask(url)["deployment"] == "v1"


def test_a_worker_that_cannot_start_at_all_is_told_with_what_it_said(
    artifact: Artifact, tmp_path: Path, manager: LocalEndpointManager
) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no such library')")
    broken = LocalEndpointManager(Settings.load(tmp_path / "project", environ={}), worker_command=command, seconds=20)
    with pytest.raises(DeploymentError, match="worker 0 exited with code 1 again and again after 'no such library'"):
        deploy(broken, artifact, 1)
    assert broken.status("e").state.deployments == ()
    assert not broken.status("e").running
    broken.delete("e")
    assert broken.names() == []


def test_an_artifact_that_is_not_the_one_named_is_refused(manager: LocalEndpointManager, artifact: Artifact) -> None:
    folder, digest = artifact("one")
    with pytest.raises(IntegrityError, match="not ffff"):
        manager.deploy("e", folder, "m", 1, "ffff")
    (folder / "model.json").write_text("changed")
    with pytest.raises(IntegrityError):
        manager.deploy("e", folder, "m", 1, digest)
    assert manager.names() == []


def test_what_is_served_does_not_change_with_its_source(manager: LocalEndpointManager, artifact: Artifact) -> None:
    folder, digest = artifact("one")
    manager.deploy("e", folder, "m", 1, digest)
    (folder / "model.json").unlink()
    manager.stop("e")
    assert manager.start("e").ready


def test_one_version_with_another_artifact_gets_a_name_of_its_own(
    manager: LocalEndpointManager, artifact: Artifact
) -> None:
    for name in ("one", "two"):
        folder, digest = artifact(name)
        manager.deploy("e", folder, "m", 0, digest)
    assert shares(manager) == {"v0": 0, f"v0-{digest[:8]}": 100}


def test_the_same_deployment_again_changes_nothing(manager: LocalEndpointManager, artifact: Artifact) -> None:
    folder, digest = artifact("one")
    first = manager.deploy("e", folder, "m", 1, digest)
    second = manager.deploy("e", folder, "m", 1, digest)
    assert second.state == first.state
    assert second.pid == first.pid


def test_a_port_is_kept_and_cannot_change_while_it_runs(manager: LocalEndpointManager, artifact: Artifact) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    url = deploy(manager, artifact, 1, port=port)
    assert url == f"http://127.0.0.1:{port}"
    with pytest.raises(UsageError, match="already") as caught:
        manager.start("e", port=port + 1)
    assert "stop" in caught.value.hint
    manager.stop("e")
    assert manager.start("e").url == url


def test_a_port_that_another_program_has_is_told(manager: LocalEndpointManager, artifact: Artifact) -> None:
    deploy(manager, artifact, 1)
    manager.stop("e")
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(DeploymentError, match=r"cannot be started: 127\.0\.0\.1:\d+ cannot be listened on"),
    ):
        manager.start("e", port=taken.getsockname()[1])
    assert manager.start("e").ready


@pytest.mark.parametrize("wrong", [{"workers": 0}, {"workers": 1000}, {"port": -1}, {"port": 65536}])
def test_numbers_that_make_no_sense_are_refused(
    manager: LocalEndpointManager, artifact: Artifact, wrong: dict[str, int]
) -> None:
    with pytest.raises(UsageError):
        deploy(manager, artifact, 1, **wrong)
    assert manager.names() == []


def test_deleting_leaves_nothing_behind(manager: LocalEndpointManager, artifact: Artifact) -> None:
    url = deploy(manager, artifact, 1)
    folder = manager.status("e").folder
    manager.delete("e")
    assert manager.names() == []
    assert [path.name for path in folder.parent.iterdir()] == [".e.lock"]
    assert keys.read(manager.vault, "e") == ()
    with pytest.raises(ConnectionRefusedError):
        ask(url)
    for gone in (manager.status, manager.rollback, manager.delete, manager.stop):
        with pytest.raises(UnknownNameError, match="unknown endpoint 'e'"):
            gone("e")


def test_a_change_while_it_is_stopped_holds_once_it_is_started(
    manager: LocalEndpointManager, artifact: Artifact
) -> None:
    url = deploy(manager, artifact, 1)
    deploy(manager, artifact, 2)
    manager.stop("e")
    told: list[str] = []
    manager.rollback("e", progress=told.append)
    assert "does not run" in told[0]
    manager.start("e")
    assert ask(url)["deployment"] == "v1"


def test_two_commands_at_once_follow_each_other(manager: LocalEndpointManager, artifact: Artifact) -> None:
    deploy(manager, artifact, 1)
    deploy(manager, artifact, 2)
    failed: list[Exception] = []

    def change(first: int) -> None:
        try:
            manager.traffic("e", {"v1": first, "v2": 100 - first})
        except Exception as error:
            failed.append(error)

    before = manager.status("e").state.revision
    threads = [threading.Thread(target=change, args=(share,)) for share in (10, 20, 30, 40, 50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert manager.status("e").state.revision == before + 5
    assert manager.status("e").ready


def test_a_command_waits_for_another_and_says_so(manager: LocalEndpointManager, artifact: Artifact) -> None:
    deploy(manager, artifact, 1)
    told: list[str] = []
    with locks.hold(manager.folder("e").lock):
        waiting = threading.Thread(target=lambda: manager.stop("e", progress=told.append))
        waiting.start()
        assert until(lambda: told)
    waiting.join()
    assert told[0] == "waits for another command to finish"


KILLED_DEPLOY = """
import sys
from pathlib import Path
sys.path.insert(0, {rig!r})
from endpoint_rig import WORKER, die_before_rename
from stk_ml.deployment.local import LocalEndpointManager
from stk_ml.settings import Settings

manager = LocalEndpointManager(Settings.load({project!r}, environ={{}}), worker_command=WORKER, seconds=20)
die_before_rename({count})
manager.deploy("e", Path({folder!r}), "m", 2, {digest!r})
"""


def test_a_deploy_that_is_killed_anywhere_leaves_the_old_one_answering_and_can_be_run_again(
    manager: LocalEndpointManager, artifact: Artifact, tmp_path: Path
) -> None:
    url = deploy(manager, artifact, 1)
    folder, digest = artifact("two")
    killed = 0
    while True:
        script = KILLED_DEPLOY.format(
            rig=str(Path(__file__).parent),
            count=killed,
            project=str(tmp_path / "project"),
            folder=str(folder),
            digest=digest,
        )
        code = subprocess.run([sys.executable, "-c", script]).returncode
        assert ask(url)["deployment"] in ("v1", "v2")
        if code == 0:
            break
        assert code == -signal.SIGKILL
        killed += 1
        manager.traffic("e", {"v1": 100})
        if "v2" in shares(manager):
            manager.delete("e", "v2")
    assert killed >= 3
    assert shares(manager) == {"v1": 0, "v2": 100}
    assert models(manager) == {each.digest for each in manager.status("e").state.deployments}


def test_a_process_that_got_the_number_of_a_dead_supervisor_is_not_taken_for_it(
    manager: LocalEndpointManager, artifact: Artifact
) -> None:
    deploy(manager, artifact, 1)
    folder = manager.folder("e")
    process = manager.status("e")
    kill(process.pid, signal.SIGKILL)
    assert until(lambda: not locks.held(folder.supervisor_lock))
    text = folder.process_file.read_text().replace(f'"pid": {process.pid}', f'"pid": {os.getpid()}', 1)
    folder.process_file.write_text(text)
    assert not manager.status("e").running
    assert not manager.stop("e")
    assert manager.start("e").running
