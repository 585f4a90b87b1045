"""The roller: killed at each of its writes and run again it comes to the same end; hands off when a person acts."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import killed_roller
import pytest
from endpoint_rig import WORKER, ask, kill, until
from killed_roller import BAD, POLICY, WELL, observing

from stk_ml.deployment import roller
from stk_ml.deployment.local import LocalEndpointManager
from stk_ml.deployment.rollout import Decision, Rollout, RolloutPolicy
from stk_ml.endpoint_state import Observation
from stk_ml.errors import DeploymentError, TelemetryError, UnknownNameError, UsageError
from stk_ml.settings import Settings

Artifact = Callable[..., tuple[Path, str]]


@pytest.fixture
def stopped(manager: LocalEndpointManager, artifact: Artifact) -> LocalEndpointManager:
    """An endpoint with a champion v1 and a loaded v2 that does not run: its files are all that a roller changes."""
    two_versions(manager, artifact)
    manager.stop("e")
    return manager


def two_versions(manager: LocalEndpointManager, artifact: Artifact) -> str:
    for version, traffic in ((1, 100), (2, 0)):
        folder, digest = artifact(f"model-{version}")
        manager.deploy("e", folder, "m", version, digest, traffic=traffic)
    return manager.status("e").url


def shares(manager: LocalEndpointManager) -> dict[str, int]:
    return {each.name: each.traffic for each in manager.status("e").state.deployments}


def test_a_good_challenger_ends_with_all_traffic_on_a_live_endpoint(
    manager: LocalEndpointManager, artifact: Artifact
) -> None:
    url = two_versions(manager, artifact)
    roller.begin(manager, "e", "v2", POLICY, now=0.0)
    assert shares(manager) == {"v1": 90, "v2": 10}
    seen: list[tuple[int, str]] = []

    def watcher(rollout: Rollout, decision: Decision) -> None:
        seen.append((manager.status("e").state.deployments[1].traffic, decision.action))

    ended = roller.run(manager, "e", observing(), wait=lambda seconds: None, watcher=watcher)
    assert seen == [(50, "advance"), (100, "advance"), (100, "promote")]
    assert (ended.status, ended.applied) == ("promoted", True)
    assert ask(url)["deployment"] == "v2"
    manager.rollback("e")
    assert ask(url)["deployment"] == "v1"


def test_a_bad_challenger_is_rolled_back(stopped: LocalEndpointManager) -> None:
    roller.begin(stopped, "e", "v2", POLICY, now=0.0)
    ended = roller.run(stopped, "e", observing(v2=BAD))
    assert ended.status == "rolled_back"
    assert "fails 10.00%" in ended.reason
    assert shares(stopped) == {"v1": 100, "v2": 0}


def test_the_last_step_is_judged_by_what_the_champion_did_before_it(stopped: LocalEndpointManager) -> None:
    roller.begin(stopped, "e", "v2", POLICY, now=0.0)

    def observe(endpoint: str, deployment: str, since: float, until: float) -> Observation:
        traffic = shares(stopped)[deployment]
        return Observation() if not traffic else WELL

    assert roller.run(stopped, "e", observe, wait=lambda seconds: None).status == "promoted"


def test_beginning_again_goes_on_with_the_policy_it_began_with(stopped: LocalEndpointManager) -> None:
    first = roller.begin(stopped, "e", "v2", POLICY, now=0.0)
    assert roller.begin(stopped, "e", "v2", RolloutPolicy(), now=50.0) == first


def test_a_second_challenger_waits_for_the_first(stopped: LocalEndpointManager, artifact: Artifact) -> None:
    roller.begin(stopped, "e", "v2", POLICY, now=0.0)
    with pytest.raises(UsageError, match="from v1 to v2 is running") as caught:
        roller.begin(stopped, "e", "v1", POLICY, now=0.0)
    assert "rollback" in caught.value.hint


def test_what_cannot_be_rolled_out_is_refused(stopped: LocalEndpointManager) -> None:
    with pytest.raises(UnknownNameError, match="'v9'"):
        roller.begin(stopped, "e", "v9", POLICY, now=0.0)
    with pytest.raises(UsageError, match="no champion"):
        roller.begin(stopped, "e", "v1", POLICY, now=0.0)
    with pytest.raises(UnknownNameError, match="rollout"):
        roller.run(stopped, "e", observing())


@pytest.mark.parametrize(
    ("act", "status", "traffic"),
    [
        (lambda manager: manager.rollback("e"), "rolled_back", {"v1": 100, "v2": 0}),
        (lambda manager: manager.promote("e"), "promoted", {"v1": 0, "v2": 100}),
        (lambda manager: manager.traffic("e", {"v1": 70, "v2": 30}), "stopped", {"v1": 70, "v2": 30}),
    ],
    ids=["rollback", "promote", "traffic"],
)
def test_a_person_who_acts_meanwhile_wins(
    stopped: LocalEndpointManager, act: Callable[[LocalEndpointManager], object], status: str, traffic: dict[str, int]
) -> None:
    roller.begin(stopped, "e", "v2", POLICY, now=0.0)

    def observe(endpoint: str, deployment: str, since: float, until: float) -> Observation:
        if stopped.status("e").state.deployments[0].traffic == 90:
            act(stopped)
        return BAD if deployment == "v2" else WELL

    ended = roller.run(stopped, "e", observe)
    assert (ended.status, ended.reason) == (status, "by hand")
    assert shares(stopped) == traffic


def last_step(manager: LocalEndpointManager) -> None:
    begun = roller.begin(manager, "e", "v2", POLICY, now=0.0)
    manager.apply("e", lambda found: replace(begun, step=2, applied=False))
    assert shares(manager) == {"v1": 0, "v2": 100}


def test_a_promotion_by_hand_at_the_last_step_ends_the_rollout(stopped: LocalEndpointManager) -> None:
    last_step(stopped)
    stopped.promote("e")
    assert roller.run(stopped, "e", observing(v2=BAD)).status == "promoted"
    assert shares(stopped) == {"v1": 0, "v2": 100}


def test_a_log_that_cannot_be_read_does_not_leave_the_canary_alone(stopped: LocalEndpointManager) -> None:
    roller.begin(stopped, "e", "v2", POLICY, now=0.0)
    times = iter([1.0, 2.0, 4000.0])

    def observe(endpoint: str, deployment: str, since: float, until: float) -> Observation:
        raise TelemetryError("the log cannot be read")

    ended = roller.run(stopped, "e", observe, clock=lambda: next(times), wait=lambda seconds: None)
    assert ended.status == "rolled_back"
    assert "could not tell" in ended.reason


def test_a_challenger_that_kills_its_workers_is_rolled_back(manager: LocalEndpointManager, artifact: Artifact) -> None:
    two_versions(manager, artifact)
    roller.begin(manager, "e", "v2", POLICY, now=0.0)

    def wait(seconds: float) -> None:
        restarts = manager.status("e").restarts
        kill(manager.status("e").workers[0].pid, signal.SIGKILL)
        assert until(lambda: manager.status("e").restarts > restarts and manager.status("e").ready)

    ended = roller.run(manager, "e", observing(v1=Observation(), v2=Observation()), clock=lambda: 1.0, wait=wait)
    assert (ended.status, ended.reason) == ("rolled_back", "workers crashed 3 times in this step, allowed 2")


def test_only_one_process_rolls(stopped: LocalEndpointManager) -> None:
    roller.begin(stopped, "e", "v2", POLICY, now=0.0)
    with stopped.alone("e"), pytest.raises(UsageError, match="another process watches"):
        roller.run(stopped, "e", observing())


def test_what_a_rollout_needs_is_not_deleted(stopped: LocalEndpointManager) -> None:
    last_step(stopped)
    with pytest.raises(UsageError, match="a rollout from v1 to v2 needs v1"):
        stopped.delete("e", "v1")


def test_a_step_that_a_worker_does_not_follow_is_tried_again_by_the_next_run(
    manager: LocalEndpointManager, artifact: Artifact, tmp_path: Path
) -> None:
    url = two_versions(manager, artifact)
    roller.begin(manager, "e", "v2", POLICY, now=0.0)
    hasty = LocalEndpointManager(Settings.load(tmp_path / "project", environ={}), worker_command=WORKER, seconds=0.5)
    worker = manager.status("e").workers[0].pid
    kill(worker, signal.SIGSTOP)
    try:
        with pytest.raises(DeploymentError, match="only 0 of 1 workers"):
            roller.run(hasty, "e", observing(v2=BAD))
        assert shares(manager) == {"v1": 100, "v2": 0}
    finally:
        kill(worker, signal.SIGCONT)
    assert roller.run(manager, "e", observing(v2=BAD)).status == "rolled_back"
    assert until(lambda: manager.status("e").ready)
    assert ask(url)["deployment"] == "v1"


@pytest.mark.parametrize(("v2", "end"), [("good", {"v1": 0, "v2": 100}), ("bad", {"v1": 100, "v2": 0})])
def test_killed_at_each_of_its_writes_and_run_again_it_comes_to_the_same_end(
    stopped: LocalEndpointManager, tmp_path: Path, v2: str, end: dict[str, int]
) -> None:
    folder, kept = stopped.folder("e").path, tmp_path / "kept"
    shutil.copytree(folder, kept)
    killed, code = 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        shutil.rmtree(folder)
        shutil.copytree(kept, folder)
        words = [sys.executable, killed_roller.__file__, str(tmp_path / "project"), str(killed), v2]
        code = subprocess.run(words).returncode
        found = stopped.folder("e").rollout()
        if found is None or found.status == "running":
            roller.begin(stopped, "e", "v2", POLICY, now=0.0)
        ended = roller.run(stopped, "e", observing(v2=BAD if v2 == "bad" else WELL), wait=lambda seconds: None)
        assert ended.applied
        assert shares(stopped) == end
        killed += 1
    assert code == 0
    assert killed >= 6
