"""Who served a model when: what monitoring has to know before it asks for histograms, which are of one digest."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from stk_ml.telemetry.queries import LogReader
from stk_ml.telemetry.rows import microseconds


@dataclass(frozen=True)
class Served:
    """Rows that a deployment scored in a stretch.

    Attributes:
        slot: number of the stretch, from 0.
        endpoint, deployment, version, digest: who.
        rows: how many.
    """

    slot: int
    endpoint: str
    deployment: str
    version: int
    digest: str
    rows: int


def served(
    reader: LogReader, model: str, since: float, until: float, *, deployment: str = "", every: float
) -> list[Served]:
    """Who scored rows of a model per ``every`` seconds from ``since`` on, shadows left out; by slot, most rows first.

    Args:
        reader: of the log.
        model: its name.
        since: unix seconds; since < time <= until.
        until: unix seconds.
        deployment: its name; all when empty.
        every: seconds.

    Raises:
        TelemetryError: the log cannot be read.
    """
    found = reader.query(
        "served",
        since=datetime.fromtimestamp(since, UTC),
        until=datetime.fromtimestamp(until, UTC),
        model=model,
        endpoint="",
        deployment=deployment,
        digest="",
        shadows=False,
        every=microseconds(every),
    )
    rows = [
        Served(row["slot"], row["served_from"], row["served_by"], row["version"], row["profile"], row["rows"])
        for row in found.to_pylist()
    ]
    return sorted(rows, key=lambda row: (row.slot, -row.rows, row.version, row.deployment))
