"""False alarms: windows in which nothing has changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from benchmarks.detecting.crew import Map, peers
from benchmarks.detecting.tools import ours, psi
from benchmarks.detecting.worlds import EFFECTS, World

OWN = ("stk-ml", "stk-ml columns", "stk-ml joint view", "psi")
#: Windows that the peers see of each kind: of up to 1,000 rows, and of more.
FEW, FEWER = 16, 5


@dataclass(frozen=True)
class Quiet:
    """A window, and whether the peers look at it too."""

    rows: int
    days: str
    seed: int
    asked: bool
    alpha: float


def look(quiet: Quiet) -> set[str]:
    """What alarms."""
    world = World(quiet.seed, quiet.rows, quiet.days)
    window = next(world.windows())
    found = ours(world.reference, window, quiet.alpha)
    alarms = (
        found.verdict == "drift",
        any(column.answer == "drift" for column in found.columns),
        found.joint == "drift",
        psi(world.reference, window),
    )
    named = {name for name, alarm in zip(OWN, alarms, strict=True) if alarm}
    return named | (peers(world, window) if quiet.asked else set())


def false_alarms(run: Map, detectors: Sequence[str], sizes: Sequence[int], windows: int, alpha: float) -> list[dict]:
    """One row per size and kind of days."""
    cells = [(rows, days) for rows in sizes for days in EFFECTS]
    each = max(windows // len(cells), 1)
    asked = {rows: min(each, FEW if rows <= 1000 else FEWER) if detectors else 0 for rows in sizes}
    tasks = [Quiet(rows, days, seed, seed < asked[rows], alpha) for rows, days in cells for seed in range(each)]
    found, table = list(run(look, tasks)), []
    for place, (rows, days) in enumerate(cells):
        alarms = found[place * each : (place + 1) * each]
        shares = {name: share(name, alarms) for name in OWN}
        shares |= {name: share(name, alarms[: asked[rows]]) for name in detectors}
        table.append({"rows": rows, "days": days, "rates": shares})
    return table


def share(name: str, alarms: Sequence[set[str]]) -> dict[str, float]:
    """Of the windows on which it alarms, with the exact (Clopper-Pearson) 95% interval."""
    hits = sum(name in alarm for alarm in alarms)
    return {"windows": len(alarms), "alarms": hits, **rate(hits, len(alarms))}


def rate(hits: int, of: int) -> dict[str, float]:
    """With the exact 95% interval."""
    interval = binomtest(hits, of).proportion_ci(0.95, "exact")
    return {"rate": round(hits / of, 4), "low": round(float(interval.low), 4), "high": round(float(interval.high), 4)}
