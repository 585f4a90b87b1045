"""Where telemetry goes: rows of three Azure Monitor tables, written by a background thread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Source:
    """Who logs: goes into every row.

    Attributes:
        endpoint, deployment: names; empty for a model that is served alone.
        model, version, digest: what is served.
        worker: of the process, unique on this machine while it lives.
        shadow: whether its scores reach no caller.
    """

    endpoint: str
    deployment: str
    model: str
    version: int
    digest: str
    worker: str = ""
    shadow: bool = False


@dataclass(frozen=True)
class Event:
    """One row of AppEvents. ``time`` in unix seconds; property values have at most 8,192 characters."""

    time: float
    name: str
    properties: Mapping[str, str]
    measurements: Mapping[str, float] = field(default_factory=dict)
    operation_id: str = ""


@dataclass(frozen=True)
class Request:
    """One row of AppRequests: ``id`` is the request id, ``duration`` is in milliseconds."""

    time: float
    id: str
    name: str
    success: bool
    result_code: str
    duration: float
    properties: Mapping[str, str]


@dataclass(frozen=True)
class Metric:
    """One row of AppMetrics: an aggregate over ``count`` items."""

    time: float
    name: str
    sum: float
    min: float
    max: float
    count: int
    properties: Mapping[str, str]


@dataclass(frozen=True)
class Batch:
    """What is written at once."""

    events: tuple[Event, ...] = ()
    requests: tuple[Request, ...] = ()
    metrics: tuple[Metric, ...] = ()


class PredictionLog(Protocol):
    """Takes batches, from one thread at a time, never the one that answers requests."""

    def write(self, batch: Batch) -> None:
        """Stores a batch wholly or not at all; TelemetryError when it could not, and it may be tried again."""

    def close(self) -> None:
        """Lets go of what it holds."""
