"""What an endpoint's processes tell each other in files: what to serve, how a worker fares, what the log saw.

The deployment stage writes the state, the scoring app reads it and answers with a status; neither imports the other.
Written and read through :mod:`stk_ml.contracts`.
"""

from __future__ import annotations

from dataclasses import dataclass

from stk_ml.errors import UsageError


@dataclass(frozen=True)
class Deployment:
    """One deployment of an endpoint: a model version that is loaded, and its share of the traffic.

    Attributes:
        name: unique in the endpoint, for example ``v3``.
        model, version, digest: what it serves; version 0 when it did not come from the registry.
        folder: absolute path of the model artifact.
        traffic: percent of the requests, 0 to 100.
        shadow: whether it also scores a copy of the requests that others answer.
    """

    name: str
    model: str
    version: int
    digest: str
    folder: str
    traffic: int = 0
    shadow: bool = False


@dataclass(frozen=True)
class EndpointState:
    """``endpoint.json``: what the workers of an endpoint are to serve. Replaced as a whole; ``revision`` only rises.

    The traffic of all deployments adds up to 100, or to 0 when the endpoint answers nobody.
    """

    name: str
    revision: int
    deployments: tuple[Deployment, ...] = ()

    def __post_init__(self) -> None:
        names = [deployment.name for deployment in self.deployments]
        shares = [deployment.traffic for deployment in self.deployments]
        if len(set(names)) < len(names):
            raise UsageError(f"endpoint {self.name}: two deployments of one name among {', '.join(names)}")
        if any(not 0 <= share <= 100 for share in shares) or sum(shares) not in (0, 100):
            raise UsageError(f"endpoint {self.name}: traffic must add up to 100, not to {' + '.join(map(str, shares))}")


@dataclass(frozen=True)
class WorkerStatus:
    """``workers/INDEX.json``: what one worker process of an endpoint says about itself, once a second.

    Attributes:
        index, pid: of the worker.
        revision: of the endpoint state that it serves; 0 before the first is loaded.
        ready: whether it answers scoring requests.
        error: why the newest state could not be loaded; empty when it was.
        requests, errors: answered since it started, and how many of them with a status of 500 or more.
        p50, p99: latency in seconds over the requests since it started.
        memory: resident bytes.
        started, updated: unix seconds.
    """

    index: int
    pid: int
    revision: int = 0
    ready: bool = False
    error: str = ""
    requests: int = 0
    errors: int = 0
    p50: float = 0.0
    p99: float = 0.0
    memory: int = 0
    started: float = 0.0
    updated: float = 0.0


@dataclass(frozen=True)
class Observation:
    """What the log saw of one deployment in a stretch of time.

    Attributes:
        requests: answered, of any status.
        errors: of them with a status of 500 or more.
        latency: counts over the bins of :data:`stk_ml.telemetry.latency.EDGES`.
        scores: number of scored rows.
        score_sum, score_squares: sum of the scores and of their squares.
    """

    requests: int = 0
    errors: int = 0
    latency: tuple[int, ...] = ()
    scores: int = 0
    score_sum: float = 0.0
    score_squares: float = 0.0
