"""A roller in a process of its own that kills itself before one of its renames (each is one write)."""

from __future__ import annotations

import sys

from endpoint_rig import WORKER, die_before_rename

from stk_ml.deployment import roller
from stk_ml.deployment.local import LocalEndpointManager
from stk_ml.deployment.rollout import RolloutPolicy
from stk_ml.endpoint_state import Observation
from stk_ml.settings import Settings
from stk_ml.telemetry import latency

POLICY = RolloutPolicy(min_seconds=0.0)
WELL = Observation(5000, 0, tuple(5000 if place == 20 else 0 for place in range(latency.BINS)), 5000, 1500.0, 650.0)
BAD = Observation(5000, 500, WELL.latency, 4500, 1350.0, 585.0)


def observing(**seen: Observation) -> roller.Observe:
    """A log that saw this of some deployments, and nothing but good of the others."""
    return lambda endpoint, deployment, since, until: seen.get(deployment, WELL)


def main(project: str, count: int, challenger: Observation) -> None:
    manager = LocalEndpointManager(Settings.load(project, environ={}), worker_command=WORKER)
    die_before_rename(count)
    roller.begin(manager, "e", "v2", POLICY, now=0.0)
    roller.run(manager, "e", observing(v2=challenger), wait=lambda seconds: None)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), BAD if sys.argv[3] == "bad" else WELL)
