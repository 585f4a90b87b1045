"""Delays: windows until the first alarm after a change, at equal false-alarm rates; and features that are not used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from benchmarks.detecting.crew import Map, peers
from benchmarks.detecting.quiet import share
from benchmarks.detecting.tools import decays, drifts, ours
from benchmarks.detecting.worlds import CHANGES, WEIGHTS, Change, World

#: Within which a detector's false-alarm rate is matched.
STRICT, LOOSE = 0.001, 0.5


@dataclass(frozen=True)
class Place:
    """A world of windows of some rows, of which ``follow`` come after the reference."""

    seed: int
    rows: int
    follow: int = 10

    def world(self) -> World:
        """Made anew."""
        return World(self.seed, self.rows, windows=self.follow)


@dataclass(frozen=True)
class Task:
    """A world, what happens in it, the rates that ours declares on features and on labels, and its peers' detectors."""

    place: Place
    changes: tuple[Change, ...]
    alphas: tuple[tuple[float, ...], tuple[float, ...]]
    detectors: tuple[str, ...]


def on_labels(detector: str) -> bool:
    """Whether it looks at labels rather than at features."""
    return detector.endswith("performance")


def at(alpha: float, *, labelled: bool) -> str:
    """Name of ours at a declared rate."""
    return f"stk-ml{' performance' if labelled else ''} at {alpha:.4g}"


def delays(run: Map, detectors: Sequence[str], places: Sequence[Place], alpha: float, most: int) -> dict:
    """Rates without a change, mean delays by change, and how much later ours is than each detector.

    Args:
        run: maps over worlds.
        detectors: of the peers.
        places: worlds.
        alpha: that ours declares by default.
        most: changes of each kind, at most; the largest are kept.
    """
    rested = [alarms for world in run(at_rest, places) for alarms in world] if detectors else []
    theirs = {name: share(name, rested) for name in detectors}
    level = {name: float(np.clip(found["rate"], STRICT, LOOSE)) for name, found in theirs.items()}
    alphas = tuple(
        tuple(sorted({alpha, STRICT, *(level[name] for name in detectors if on_labels(name) == labelled)}))
        for labelled in (False, True)
    )
    kinds = tuple(Change(name, size) for name, sizes in CHANGES.items() for size in sizes[-most:])
    tasks = [Task(place, kinds, alphas, tuple(detectors)) for place in places]
    found = list(run(wait, tasks))
    still = [alarms for world in run(own_rest, tasks) for alarms in world]
    rates = {at(a, labelled=k == 1): share(at(a, labelled=k == 1), still) for k in (0, 1) for a in alphas[k]}
    equal = {}
    for name in detectors:
        mine = at(level[name], labelled=on_labels(name))
        equal[name] = {**theirs[name], "ours": mine, "ours_rate": rates[mine]["rate"]}
    return {
        "rows": places[0].rows,
        "worlds": len(places),
        "equal": equal,
        "rates": rates,
        "changes": [_row(change, [world[change] for world in found], equal) for change in kinds],
    }


def _row(change: Change, waited: Sequence[dict[str, int]], equal: dict[str, dict]) -> dict:
    columns = {name: np.array([world[name] for world in waited]) for name in waited[0]}
    later = {name: mean(columns[equal[name]["ours"]] - columns[name]) for name in equal if name in columns}
    means = {name: mean(column) for name, column in columns.items()}
    return {"change": change.name, "size": change.size, "delays": means, "later": later}


def at_rest(place: Place) -> list[set[str]]:
    """Which detectors alarm on each window of a world without a change."""
    world = place.world()
    return [peers(world, window) | peers(world, window, labelled=True) for window in world.windows()]


def own_rest(task: Task) -> list[set[str]]:
    """The same of ours, at each rate."""
    world = task.place.world()
    return [
        {
            at(alpha, labelled=labelled)
            for labelled in (False, True)
            for alpha in task.alphas[labelled]
            if (decays if labelled else drifts)(world.reference, window, alpha)
        }
        for window in world.windows()
    ]


def wait(task: Task) -> dict[Change, dict[str, int]]:
    """Delay of every detector after each change."""
    world = task.place.world()
    return {change: _wait(task, world, change) for change in task.changes}


def _wait(task: Task, world: World, change: Change) -> dict[str, int]:
    labelled = change.name == "concept"
    waited: dict[str, int] = {}
    asked = [name for name in task.detectors if on_labels(name) == labelled]
    for number, window in enumerate(world.windows(change), 1):
        for alpha in task.alphas[labelled]:
            name = at(alpha, labelled=labelled)
            if name not in waited and (decays if labelled else drifts)(world.reference, window, alpha):
                waited[name] = number
        if not all(name in waited for name in asked):
            for name in peers(world, window, labelled=labelled) & set(asked):
                waited.setdefault(name, number)
    mine = [at(alpha, labelled=labelled) for alpha in task.alphas[labelled]]
    return {name: waited.get(name, task.place.follow + 1) for name in (*mine, *asked)}


def mean(values: np.ndarray) -> dict[str, float]:
    """With Student's 95% interval."""
    count, middle = len(values), float(values.mean())
    reach = float(student.ppf(0.975, count - 1) * values.std(ddof=1) / count**0.5) if count > 1 else np.inf
    return {"mean": round(middle, 2), "low": round(middle - reach, 2), "high": round(middle + reach, 2)}


def unused(place: Place) -> tuple[int, int]:
    """How many verdicts on a world's windows alarm, and differ, when a feature that the model does not use moves."""
    world = place.world()
    pairs = zip(world.windows(Change("unused", 0.5)), world.windows(), strict=True)
    said = [[ours(world.reference, window, 0.05, weights=WEIGHTS).verdict for window in pair] for pair in pairs]
    return sum(moved == "drift" for moved, _ in said), sum(moved != still for moved, still in said)
