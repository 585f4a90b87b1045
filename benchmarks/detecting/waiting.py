"""Delays: windows until the first alarm after a change, at equal false-alarm rates; and features that are not used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from benchmarks.detecting.crew import Map, peers
from benchmarks.detecting.quiet import share
from benchmarks.detecting.tools import decays, drifts, ours
from benchmarks.detecting.worlds import CHANGES, WEIGHTS, Change, World

#: Rows in a window, windows that follow a change, and the delay when it is found in none.
ROWS, FOLLOW = 1000, 10
NEVER = FOLLOW + 1
#: Within which a detector's false-alarm rate is matched.
STRICT, LOOSE = 0.001, 0.5


@dataclass(frozen=True)
class Task:
    """A world, the rates that ours declares on features and on labels, and the detectors to compare it with."""

    seed: int
    alphas: tuple[tuple[float, ...], tuple[float, ...]]
    detectors: tuple[str, ...]


def on_labels(detector: str) -> bool:
    """Whether it looks at labels rather than at features."""
    return detector.endswith("performance")


def at(alpha: float, *, labelled: bool) -> str:
    """Name of ours at a declared rate."""
    return f"stk-ml{' performance' if labelled else ''} at {alpha:.4g}"


def delays(run: Map, detectors: Sequence[str], worlds: int, alpha: float) -> dict:
    """Rates without a change, mean delays by change, and how much later ours is than each detector."""
    rested = [alarms for world in run(at_rest, range(worlds)) for alarms in world] if detectors else []
    theirs = {name: share(name, rested) for name in detectors}
    level = {name: float(np.clip(found["rate"], STRICT, LOOSE)) for name, found in theirs.items()}
    alphas = tuple(
        tuple(sorted({alpha, STRICT, *(level[name] for name in detectors if on_labels(name) == labelled)}))
        for labelled in (False, True)
    )
    found = list(run(wait, [Task(seed, alphas, tuple(detectors)) for seed in range(worlds)]))
    still = [alarms for world in run(own_rest, [Task(seed, alphas, ()) for seed in range(worlds)]) for alarms in world]
    rates = {at(a, labelled=k == 1): share(at(a, labelled=k == 1), still) for k in (0, 1) for a in alphas[k]}
    equal = {}
    for name in detectors:
        mine = at(level[name], labelled=on_labels(name))
        equal[name] = {**theirs[name], "ours": mine, "ours_rate": rates[mine]["rate"]}
    return {
        "rows": ROWS,
        "worlds": worlds,
        "equal": equal,
        "rates": rates,
        "changes": [_row(change, [world[change] for world in found], equal) for change in changes()],
    }


def _row(change: Change, waited: Sequence[dict[str, int]], equal: dict[str, dict]) -> dict:
    columns = {name: np.array([world[name] for world in waited]) for name in waited[0]}
    later = {name: mean(columns[equal[name]["ours"]] - columns[name]) for name in equal if name in columns}
    means = {name: mean(column) for name, column in columns.items()}
    return {"change": change.name, "size": change.size, "delays": means, "later": later}


def changes() -> Iterator[Change]:
    """All of them."""
    return (Change(name, size) for name, sizes in CHANGES.items() for size in sizes)


def at_rest(seed: int) -> list[set[str]]:
    """Which detectors alarm on each window of a world without a change."""
    world = World(seed, ROWS, windows=FOLLOW)
    return [peers(world, window) | peers(world, window, labelled=True) for window in world.windows()]


def own_rest(task: Task) -> list[set[str]]:
    """The same of ours, at each rate."""
    world = World(task.seed, ROWS, windows=FOLLOW)
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
    world = World(task.seed, ROWS, windows=FOLLOW)
    return {change: _wait(task, world, change) for change in changes()}


def _wait(task: Task, world: World, change: Change) -> dict[str, int]:
    labelled = change.name == "concept"
    waited: dict[str, int] = {}
    asked = [name for name in task.detectors if on_labels(name) == labelled]
    for place, window in enumerate(world.windows(change), 1):
        for alpha in task.alphas[labelled]:
            name = at(alpha, labelled=labelled)
            if name not in waited and (decays if labelled else drifts)(world.reference, window, alpha):
                waited[name] = place
        if not all(name in waited for name in asked):
            for name in peers(world, window, labelled=labelled) & set(asked):
                waited.setdefault(name, place)
    mine = [at(alpha, labelled=labelled) for alpha in task.alphas[labelled]]
    return {name: waited.get(name, NEVER) for name in (*mine, *asked)}


def mean(values: np.ndarray) -> dict[str, float]:
    """With Student's 95% interval."""
    count, middle = len(values), float(values.mean())
    reach = float(student.ppf(0.975, count - 1) * values.std(ddof=1) / count**0.5) if count > 1 else np.inf
    return {"mean": round(middle, 2), "low": round(middle - reach, 2), "high": round(middle + reach, 2)}


def unused(seed: int) -> tuple[int, int]:
    """How many verdicts on a world's windows alarm, and differ, when a feature that the model does not use moves."""
    world = World(seed, ROWS, windows=FOLLOW)
    pairs = zip(world.windows(Change("unused", 0.5)), world.windows(), strict=True)
    said = [[ours(world.reference, window, 0.05, weights=WEIGHTS).verdict for window in pair] for pair in pairs]
    return sum(moved == "drift" for moved, _ in said), sum(moved != still for moved, still in said)
