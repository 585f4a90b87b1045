"""Delays: windows until the first alarm after a change, at equal false-alarm rates; and features that are not used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from benchmarks.detecting.crew import Map, peers
from benchmarks.detecting.quiet import share
from benchmarks.detecting.tools import LEVELS, decay_level, drift_level, ours
from benchmarks.detecting.worlds import CHANGES, WEIGHTS, Change, World

#: Whatever the false-alarm rate, ours alarms at this level; windows after one are not looked at.
CERTAIN = LEVELS[0]
OURS = ("stk-ml", "stk-ml performance")


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
    """A world, the changes that are tried in it, and the detectors of the peers."""

    place: Place
    changes: tuple[Change, ...]
    detectors: tuple[str, ...]


@dataclass(frozen=True)
class Seen:
    """Of the windows after a change: the levels of ours, one by one, and where each detector alarms, from 1."""

    levels: tuple[float, ...]
    alarms: Mapping[str, tuple[int, ...]]


def on_labels(detector: str) -> bool:
    """Whether it looks at labels rather than at features."""
    return detector.endswith("performance")


def see(task: Task) -> dict[tuple[Change, bool], Seen]:
    """Each change of a world in the eyes of what looks at what it changes, and none in the eyes of all."""
    world, found = task.place.world(), {}
    for change in (Change(), *task.changes):
        for labelled in (False, True) if not change.name else (change.name == "concept",):
            asked = {name for name in task.detectors if on_labels(name) == labelled}
            found[change, labelled] = _see(world, change, asked, labelled=labelled)
    return found


def _see(world: World, change: Change, asked: set[str], *, labelled: bool) -> Seen:
    levels: list[float] = []
    alarms: dict[str, tuple[int, ...]] = dict.fromkeys(asked, ())
    for number, window in enumerate(world.windows(change), 1):
        # Without a change every window counts, after one the first alarm.
        if not change.name or not levels or levels[-1] > CERTAIN:
            levels.append((decay_level if labelled else drift_level)(world.reference, window))
        if not change.name or not all(alarms.values()):
            for name in asked & peers(world, window, labelled=labelled):
                alarms[name] += (number,)
    return Seen(tuple(levels), alarms)


def delays(run: Map, detectors: Sequence[str], places: Sequence[Place], alpha: float, most: int) -> dict:
    """Rates without a change, mean delays by change, and how much later ours is than each detector.

    Args:
        run: maps over worlds.
        detectors: of the peers.
        places: worlds.
        alpha: that ours declares by default.
        most: changes of each kind, at most; the largest are kept.
    """
    changes = tuple(Change(name, size) for name, sizes in CHANGES.items() for size in sizes[-most:])
    worlds = list(run(see, [Task(place, changes, tuple(detectors)) for place in places]))
    equal = {name: _equal(name, [world[Change(), on_labels(name)] for world in worlds]) for name in detectors}
    rows = []
    for change in changes:
        labelled = change.name == "concept"
        seen = [world[change, labelled] for world in worlds]
        rows.append(_row(change, seen, labelled, alpha, places[0].follow + 1, equal))
    resting = [[level for world in worlds for level in world[Change(), side].levels] for side in (False, True)]
    own = {name: _alarms(levels, alpha) for name, levels in zip(OURS, resting, strict=True)}
    return {"rows": places[0].rows, "worlds": len(places), "own": own, "equal": equal, "changes": rows}


def _equal(name: str, resting: Sequence[Seen]) -> dict:
    """A detector's false alarms, and the largest alpha at which ours has no more of them on the same windows."""
    levels = sorted(level for seen in resting for level in seen.levels)
    hits = sum(len(seen.alarms[name]) for seen in resting)
    # Just below the level of the window that would be one alarm too many.
    alpha = float(max(np.nextafter(min(levels[hits], 1.0), 0.0), CERTAIN)) if hits < len(levels) else 1.0
    theirs = share(name, [{name}] * hits + [set()] * (len(levels) - hits))
    return {**theirs, "alpha": alpha, "ours": _alarms(levels, alpha)}


def _alarms(levels: Sequence[float], alpha: float) -> dict:
    return share("", [{""} if level <= alpha else set() for level in levels])


def _row(
    change: Change, seen: Sequence[Seen], labelled: bool, alpha: float, never: int, equal: Mapping[str, dict]
) -> dict:
    def own(alpha: float) -> np.ndarray:
        return np.array([first((k for k, v in enumerate(s.levels, 1) if v <= alpha), never) for s in seen])

    compared = {}
    for name in (name for name in equal if on_labels(name) == labelled):
        theirs = np.array([first(iter(each.alarms[name]), never) for each in seen])
        mine = own(equal[name]["alpha"])
        compared[name] = {"peer": mean(theirs), "ours": mean(mine), "later": mean(mine - theirs)}
    declared = mean(own(alpha))
    return {"change": change.name, "size": change.size, "at the declared rate": declared, "compared": compared}


def first(places: Iterator[int], never: int) -> int:
    """The first of them, if there is any."""
    return next(places, never)


def mean(values: np.ndarray) -> dict[str, float]:
    """With Student's 95% interval."""
    count, middle = len(values), float(values.mean())
    reach = float(student.ppf(0.975, count - 1) * values.std(ddof=1) / count**0.5) if count > 1 else 0.0
    return {"mean": round(middle, 2), "low": round(middle - reach, 2), "high": round(middle + reach, 2)}


def unused(place: Place) -> tuple[int, int]:
    """How many verdicts on a world's windows alarm, and differ, when a feature that the model does not use moves."""
    world = place.world()
    pairs = zip(world.windows(Change("unused", 0.5)), world.windows(), strict=True)
    said = [[ours(world.reference, window, 0.05, weights=WEIGHTS).verdict for window in pair] for pair in pairs]
    return sum(moved == "drift" for moved, _ in said), sum(moved != still for moved, still in said)
