"""False alarms and delays of drift detection: ours beside PSI > 0.1, Evidently's and NannyML's defaults.

    python benchmarks/detection.py [--windows 2000] [--worlds 8] [--jobs 1] [--out FILE] [--chart FILE] [--no-peers]

False alarms: windows without drift, of 50 to 100,000 rows after 60 days of as many rows (at most 2,000 a day), over
days that are alike, differ independently or are autocorrelated. Ours looks at all of them at its declared rate of 5%,
with its defaults; the peers, which take seconds for a large window, at the first few of each kind (how many is said).
A cell misses the target when the exact 95% interval of our rate lies above 5%.

Delay: windows of 500 rows until the first alarm after a change, 11 when there is none in 10, mean over worlds. Peers
are at their defaults. The false-alarm rates are made equal by setting ours: in every world each detector of a peer and
ours look at ten windows without a change, and ours gets the largest ``alpha`` at which it alarms on no more of them
than the detector does (between 0.0005 and 1; its floors of effects stay at their defaults). The target is missed where
the mean delay of ours is longer than the detector's. Changes of features are compared with what looks at features, and
changes of labels alone (``concept``) with what looks at labels, all known at once.

Unused features: a feature of weight 0 moves by half its deviation; no verdict may differ from the same window without.

Peers run in environments of their own, and are reported absent where they cannot be installed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.detecting import chart
from benchmarks.detecting.crew import crews
from benchmarks.detecting.quiet import false_alarms, rate
from benchmarks.detecting.tools import PEERS
from benchmarks.detecting.waiting import Place, delays, unused
from benchmarks.serving.environments import AbsentError, python

ALPHA = 0.05
#: Rows in the windows without drift, and in those whose delay is measured; seed of the first of these worlds, none of
#: which was looked at while floors and tests were chosen.
SIZES, ROWS, FIRST = (50, 200, 1000, 5000, 20_000, 100_000), 500, 1000


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        windows: without drift.
        sizes: rows in them.
        worlds: with a change.
        rows: in their windows.
        follow: windows in which the change is looked for.
        changes: of each kind, at most.
    """

    windows: int = 2000
    sizes: tuple[int, ...] = SIZES
    worlds: int = 8
    rows: int = ROWS
    follow: int = 10
    changes: int = 9


def measure(extent: Extent, jobs: int = 1, *, with_peers: bool = False) -> dict:
    """All of it."""
    absent: dict[str, str] = {}
    for name in PEERS if with_peers else ():
        try:
            python(name)
        except AbsentError as error:
            absent[name] = str(error)
    names = [name for name in PEERS if with_peers and name not in absent]
    features, labels = ([name for peer in names for name in PEERS[peer][side]] for side in (0, 1))
    started = time.monotonic()
    found: dict = {"alpha": ALPHA, "absent": absent}
    with crews(jobs, names) as run:
        found["false_alarms"] = false_alarms(run, features, extent.sizes, extent.windows, ALPHA)
        found["seconds_of_false_alarms"] = round(time.monotonic() - started)
        worlds = [Place(FIRST + k, extent.rows, extent.follow) for k in range(extent.worlds)]
        if worlds:
            found["delays"] = delays(run, features + labels, worlds, ALPHA, extent.changes)
            alarms, differ = (sum(counts) for counts in zip(*run(unused, worlds), strict=True))
            found["unused"] = {"windows": len(worlds) * extent.follow, "alarms": alarms, "differ": differ}
    found["seconds"] = round(time.monotonic() - started)
    return {**found, "targets": list(targets(found))}


def targets(found: dict) -> Iterator[dict]:
    """Met or missed, one by one."""
    own = {f"{cell['rows']} rows, days {cell['days']}": cell["rates"]["stk-ml"] for cell in found["false_alarms"]}
    above = [name for name, rates in own.items() if rates["low"] > ALPHA]
    alarms, windows = (sum(rates[key] for rates in own.values()) for key in ("alarms", "windows"))
    yield {
        "target": f"false alarms at most {ALPHA:.0%}",
        "met": not above,
        "detail": {"windows": windows, "alarms": alarms, **rate(alarms, windows), "cells above": above},
    }
    if "delays" not in found:
        return
    compared = [(row, name, each) for row in found["delays"]["changes"] for name, each in row["compared"].items()]
    gaps = {f"{row['change']} {row['size']:g}, {name}": each["later"] for row, name, each in compared}
    later = {
        name: f"{gap['mean']:+.2f} ({gap['low']:+.2f} to {gap['high']:+.2f})"
        for name, gap in gaps.items()
        if gap["mean"] > 0
    }
    yield {
        "target": "at equal false-alarm rates never later than a peer, on average",
        "met": not later if compared else None,
        "detail": {"compared": len(gaps), "earlier": sum(gap["mean"] < 0 for gap in gaps.values()), "later": later},
    }
    yield {
        "target": "no alarm in features that are not used",
        "met": not found["unused"]["differ"],
        "detail": found["unused"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--windows", type=int, default=2000, help="without drift (default: 2000)")
    parser.add_argument("--worlds", type=int, default=8, help="with a change; 0 for none (default: 8)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--out", type=Path, help="file of the result; default: printed")
    parser.add_argument("--chart", type=Path, help="SVG file")
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    extent = Extent(options.windows, worlds=options.worlds)
    found = measure(extent, options.jobs, with_peers=not options.no_peers)
    text = json.dumps(found, indent=None if options.out is None else 1)
    options.out.write_text(text + "\n") if options.out else print(text)
    if options.chart:
        options.chart.write_text(chart.draw(found))
    for target in found["targets"]:
        said = {True: "met", False: "missed", None: "not measured"}[target["met"]]
        print(f"{said}: {target['target']}: {json.dumps(target['detail'])}", file=sys.stderr)


if __name__ == "__main__":
    main()
