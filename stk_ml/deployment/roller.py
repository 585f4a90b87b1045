"""Runs a canary rollout: looks, decides, applies, until it is promoted or rolled back.

All that it knows is in ``rollout.json``. A decision is written there before the traffic is set, and marked as applied
after it: whoever goes on after a kill finds the one or the other, and comes to the same end.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

from stk_ml.deployment import rollout as rollouts
from stk_ml.deployment import state
from stk_ml.deployment.protocol import EndpointReport
from stk_ml.deployment.rollout import Decision, Rollout, RolloutPolicy
from stk_ml.endpoint_state import Observation
from stk_ml.errors import TelemetryError, UnknownNameError, UsageError

log = logging.getLogger("stk_ml.deployment")

#: What the log saw: endpoint, deployment, from and to in unix seconds.
Observe = Callable[[str, str, float, float], Observation]
#: Told of each look: the rollout as it stands after it, and what was decided.
Watcher = Callable[[Rollout, Decision], None]


class Host(Protocol):
    """What a rollout needs of an endpoint manager."""

    def status(self, endpoint: str) -> EndpointReport:
        """How the endpoint fares."""

    def apply(self, endpoint: str, decide: Callable[[Rollout | None], Rollout | None]) -> Rollout | None:
        """Changes the rollout, and the traffic as it then wants it, alone with the endpoint; gives the rollout."""

    def alone(self, endpoint: str) -> AbstractContextManager[None]:
        """Makes this process the only one that rolls; UsageError when another does."""


def begin(host: Host, endpoint: str, challenger: str, policy: RolloutPolicy, *, now: float) -> Rollout:
    """Begins a rollout at its first step, or gives the one of that challenger that runs, with the policy it has.

    Args:
        host: changes the endpoint.
        endpoint: its name.
        challenger: a deployment that is loaded.
        policy: what it must show.
        now: unix seconds.

    Raises:
        UsageError: another rollout runs, or the challenger answers everyone already.
        UnknownNameError: there is no such deployment.
    """
    deployments = host.status(endpoint).state
    state.get(deployments, challenger)

    def decide(found: Rollout | None) -> Rollout | None:
        if found and found.status == "running":
            if found.challenger == challenger:
                return None
            raise UsageError(
                f"a rollout of endpoint {endpoint} from {found.champion} to {found.challenger} is running",
                hint=f"end it first: stk-ml endpoint promote {endpoint}, or rollback",
            )
        report = host.status(endpoint)
        champion = state.main(report.state)
        if champion is None or champion.name == challenger:
            raise UsageError(f"{challenger} of endpoint {endpoint} has no champion to be compared with")
        return rollouts.begin(endpoint, champion.name, challenger, policy, now, sum(report.restarts))

    return _found(endpoint, host.apply(endpoint, decide))


def run(
    host: Host,
    endpoint: str,
    observe: Observe,
    *,
    clock: Callable[[], float] = time.time,
    wait: Callable[[float], None] = time.sleep,
    every: float = 2.0,
    watcher: Watcher = lambda rollout, decision: None,
) -> Rollout:
    """Watches the rollout of an endpoint to its end; can be run again after it was killed.

    Args:
        host: changes the endpoint.
        endpoint: its name.
        observe: asks the log.
        clock: unix seconds.
        wait: sleeps.
        every: seconds between two looks at the log.
        watcher: told of each look.

    Returns:
        The rollout as it ended: promoted, rolled back, or stopped by hand.

    Raises:
        UnknownNameError: there is no such endpoint, or it has no rollout.
        UsageError: another process watches it.
        DeploymentError: the traffic could not be set; run it again.
    """
    with host.alone(endpoint):
        while True:
            current = _found(endpoint, host.apply(endpoint, lambda found: None))
            if current.status != "running":
                return current
            now, crashed = clock(), sum(host.status(endpoint).restarts)
            champion, challenger = _observed(current, observe, now)
            decision = rollouts.decide(current, champion, challenger, now, crashed)
            following = rollouts.after(current, decision, champion, now, crashed)
            if following != current:
                _replace(host, endpoint, current, following)
            watcher(following, decision)
            if following.status == "running":
                wait(every)


def _observed(rollout: Rollout, observe: Observe, now: float) -> tuple[Observation, Observation]:
    """What the champion and the challenger did in the step; nothing while the log cannot be read.

    Not to stop then matters: a canary that nobody watches would go on answering. What is never seen is rolled back.
    """
    try:
        names = rollout.champion, rollout.challenger
        champion, challenger = (observe(rollout.endpoint, name, rollout.since, now) for name in names)
    except TelemetryError as error:
        log.warning("%s", error)
        return Observation(), Observation()
    return champion, challenger


def _replace(host: Host, endpoint: str, current: Rollout, following: Rollout) -> None:
    """Unless somebody has ended it meanwhile."""
    host.apply(endpoint, lambda found: following if found == current else None)


def _found(endpoint: str, rollout: Rollout | None) -> Rollout:
    if rollout is None:
        raise UnknownNameError("rollout of endpoint", endpoint, hint="stk-ml deploy MODEL --canary begins one")
    return rollout
