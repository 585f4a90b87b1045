"""What an endpoint is managed through, on a laptop and on Azure, and what its report holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from stk_ml.endpoint_state import EndpointState, WorkerStatus

if TYPE_CHECKING:
    from stk_ml.deployment.rollout import Rollout

#: Called with what a change waits for, in words.
Progress = Callable[[str], None]


@dataclass(frozen=True)
class EndpointReport:
    """How an endpoint fares.

    Attributes:
        name: of the endpoint.
        url: where it answers; empty when it never ran.
        running: whether its supervisor runs.
        pid: of the supervisor; 0 when it does not run.
        state: its deployments and their traffic.
        workers: what each worker said last.
        restarts: how often each worker was started again, in the order of the workers.
        rollout: the newest canary rollout; None when there was none.
        folder: where its state, logs and models are.
    """

    name: str
    url: str
    running: bool
    pid: int
    state: EndpointState
    workers: tuple[WorkerStatus, ...] = ()
    restarts: tuple[int, ...] = ()
    rollout: Rollout | None = None
    folder: Path = Path()

    @property
    def ready(self) -> bool:
        """Whether every worker answers, and serves the newest state."""
        behind = any(not each.ready or each.error or each.revision < self.state.revision for each in self.workers)
        return bool(self.workers) and len(self.workers) == len(self.restarts) and not behind


class EndpointManager(Protocol):
    """Changes endpoints. A change returns once every worker serves it, or puts back what was there and raises.

    Every method raises UnknownNameError for an endpoint or a deployment that does not exist, UsageError for a change
    that makes no sense, and DeploymentError for one that could not be made.
    """

    def names(self) -> list[str]:
        """The endpoints, sorted."""

    def status(self, endpoint: str) -> EndpointReport:
        """How it fares; changes nothing."""

    def deploy(
        self,
        endpoint: str,
        artifact: Path,
        model: str,
        version: int,
        digest: str,
        *,
        traffic: int = 100,
        shadow: bool = False,
        progress: Progress = ...,
    ) -> EndpointReport:
        """Puts a model version behind an endpoint, which is created when it does not exist.

        Args:
            endpoint: its name.
            artifact: folder of the model.
            model: whose version it is.
            version: its number.
            digest: of the artifact.
            traffic: percent of the requests, taken from the deployment that has most; the first takes all.
            shadow: it answers nobody and scores copies of what the others answer.
            progress: told what is waited for.
        """

    def traffic(self, endpoint: str, shares: Mapping[str, int]) -> EndpointReport:
        """Sets the percent of the requests of each deployment; those not named get none."""

    def promote(self, endpoint: str, deployment: str = "") -> EndpointReport:
        """Gives a deployment (default: the challenger) all traffic; the one before stays loaded."""

    def rollback(self, endpoint: str) -> EndpointReport:
        """Gives all traffic to the deployment before."""

    def delete(self, endpoint: str, deployment: str = "") -> None:
        """Removes a deployment without traffic, or the endpoint with all that it holds but its telemetry."""

    def logs(self, endpoint: str, *, lines: int = 100, follow: bool = False) -> Iterator[str]:
        """The newest lines of its processes, oldest first; with ``follow`` also those that come."""
