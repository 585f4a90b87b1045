"""What monitoring costs, and what late labels do to its estimates. JSON lines, a verdict per target, and a chart.

days: one look of ``stk-ml monitor run`` (drift and quality) at a day with 1,000 and at one with many predictions; the
telemetry is written by the real recorder, a window each ten seconds, and merged hour by hour as workers do. A look
that also reads predictions and labels stands beside it.
histograms: a Parquet file of 25 columns counted over given bins, against DuckDB and polars, each at its own best.
comparisons: two Parquet files compared, against Evidently's DataDriftPreset and NannyML's UnivariateDriftCalculator.
labels: bias of estimates on young predictions whose late outcomes are labelled later, naive and corrected.

Tools have processes and environments of their own, take turns, and do a small job first, which pays for imports.
Numbers are medians over the rounds. A peer that cannot be installed is told with its reason.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from monitoring import bare, days, labels, tables
from monitoring.bare import Took, Worker
from serving import chart
from serving.chart import Bar
from serving.environments import AbsentError
from serving.tell import say, tell

PARTS = ("days", "histograms", "comparisons", "labels")
FEW, ENVIRONMENTS = 1000, {"polars": "polars", "evidently": "evidently", "nannyml": "nannyml"}
Panel = tuple[str, list[Bar]]


def look(folder: Path, many: int, rounds: int) -> Panel:
    """The cost of a look at a day with few and with many predictions."""
    artifact = folder / "model" if (folder / "model").exists() else days.train(folder)
    watched = {count: days.Watched(folder / f"day-{count}", artifact, count) for count in (FEW, many)}
    for count, day in watched.items():
        if not day.project.exists():
            say(f"scoring {count:,} rows on a day")
            day.make()
        say("the log has {} files of {:.1f} MB".format(*days.size(day.log)))
    seconds: dict[int, list[float]] = {count: [] for count in watched}
    for turn in range(rounds + 1):
        for count, day in watched.items():
            took, verdict = day.look()
            if verdict.rows != count:
                raise SystemExit(f"the look saw {verdict.rows:,} of {count:,} rows")
            seconds[count] += [took] if turn else []  # the first one pays for imports
    few, most = (statistics.median(seconds[count]) for count in watched)
    tell(
        f"look at a day of {many:,} predictions against one of {FEW:,}", most / few, "times", 2.0, False, s=[few, most]
    )
    labelled = {count: day.look(labels=True)[0] for count, day in watched.items()}
    for count, took in labelled.items():
        tell(f"the same of {count:,} with labels", took, "s")
    bars = [Bar(f"{count:,} predictions", of, f"{of:.2f} s", "o") for count, of in ((FEW, few), (many, most))]
    bars += [Bar(f"{count:,} and labels", took, f"{took:.2f} s", "e") for count, took in labelled.items()]
    return "A look at a day: seconds (log scale)", bars


@contextlib.contextmanager
def workers(codes: Mapping[str, str]) -> Iterator[dict[str, Worker]]:
    """A process per tool that can be had; tells the others."""
    found: dict[str, Worker] = {}
    with contextlib.ExitStack() as stack:
        for name, code in codes.items():
            try:
                found[name] = Worker(code, ENVIRONMENTS.get(name, ""))
                stack.callback(found[name].close)
            except AbsentError as reason:
                tell(f"{name} is absent", None, "", reason=str(reason))
        yield found


def turns(tools: Mapping[str, Worker], small: dict[str, Any], large: dict[str, Any], rounds: int) -> dict[str, Took]:
    """The median of each tool's large jobs, after a small one."""
    for worker in tools.values():
        worker(**small)
    took: dict[str, list[Took]] = {name: [] for name in tools}
    for turn in range(rounds):
        for name, worker in tools.items():
            took[name].append(worker(**large))
            say(f"{turn + 1}. {name}: {took[name][-1]}")
    return {name: sorted(of, key=lambda each: each.seconds)[(len(of) - 1) // 2] for name, of in took.items()}


def count(folder: Path, rows: int, rounds: int) -> Panel:
    """Histograms of one file."""
    small, large = tables.write(folder / "few.parquet", 2000, 0), tables.write(folder / "many.parquet", rows, 0)
    bins = tables.bins(small)
    with workers(bare.HISTOGRAMS) as tools:
        found = turns(tools, {"path": str(small), **bins}, {"path": str(large), **bins}, rounds)
    ours, peers = found["stk-ml"], {name: took for name, took in found.items() if name != "stk-ml"}
    if peers:
        least = min(took.seconds for took in peers.values())
        told = {name: [round(took.seconds, 3), round(took.cpu, 3), round(took.peak)] for name, took in found.items()}
        name = f"histograms of {rows:,} x {len(tables.COLUMNS)} against the faster of DuckDB and polars"
        tell(name, ours.seconds / least, "times", 1.5, False, seconds_processor_seconds_MB=told)
    tell(f"peak memory of the histograms of {rows:,} rows", ours.peak, "MB", 1024, False)
    return f"Histograms of {rows:,} x {len(tables.COLUMNS)} values: seconds (log scale)", _bars(found)


def compare(folder: Path, rows: int, rounds: int) -> Panel:
    """Two files compared."""
    files = [[tables.write(folder / f"{size}-{seed}", size, seed) for seed in (1, 2)] for size in (2000, rows)]
    about = {"numbers": tables.NUMBERS, "categories": tables.CATEGORIES}
    small, large = ({"then": str(then), "now": str(now), **about} for then, now in files)
    with workers({name: bare.COMPARISONS[name] for name in ("stk-ml", "nannyml")}) as tools:
        found = turns(tools, small, large, rounds)
        joint = turns({"stk-ml": tools["stk-ml"]}, {**small, "joint": True}, {**large, "joint": True}, rounds)["stk-ml"]
    with workers({name: bare.COMPARISONS[name] for name in ("evidently", "stk-ml")}) as tools:
        slow = turns(tools, small, large, 1 if rows > 100_000 else rounds)
    size = f"{rows:,} x {len(tables.COLUMNS)} values"
    for peer, least, of in (("evidently", 30.0, slow), ("nannyml", 1.0, found)):
        if peer in of:
            ours, theirs = of["stk-ml"], of[peer]
            about = {
                "s": [theirs.seconds, ours.seconds],
                "cpu_s": [theirs.cpu, ours.cpu],
                "MB": [theirs.peak, ours.peak],
            }
            told = {**about, "columns_with_drift": [theirs.total, ours.total]}
            tell(f"{peer} against stk-ml, {size} compared", theirs.seconds / ours.seconds, "times", least, **told)
            tell(f"{peer} against stk-ml with its joint view", theirs.seconds / joint.seconds, "times", s=joint.seconds)
    all_of = {**slow, **found, "stk-ml, joint view": joint}
    return f"Two tables of {size} compared: seconds (log scale)", _bars(all_of)


def late(worlds: int, rows: int) -> Panel:
    """Biases under late labels."""
    bars = []
    for problem, watched in labels.WATCHED.items():
        for delay, draw in labels.DELAYS.items():
            for name, of in labels.biases(problem, draw, worlds, rows).items():
                about = {"naive": of.naive, "corrected": of.corrected, "worlds": of.worlds, "at_most": of.ratio[1]}
                what = f"bias of {name} ({problem}, {delay}), corrected against naive"
                tell(what, of.ratio[0], "times", 0.2, False, **about)
                if name == watched[-1]:
                    bars += [
                        Bar(f"{name}, {delay}{told}", max(abs(bias), 1e-5), f"{bias:+.4f} ± {1.96 * error:.4f}", style)
                        for told, (bias, error), style in ((", naive", of.naive, "p"), ("", of.corrected, "o"))
                    ]
    return "Bias of estimates on young predictions (log scale), naive and corrected", bars


def _bars(found: Mapping[str, Took]) -> list[Bar]:
    told = sorted(found.items(), key=lambda item: item[1].seconds)
    return [
        Bar(name, took.seconds, f"{took.seconds:.2f} s, {took.peak:,.0f} MB", "o" if "stk-ml" in name else "p")
        for name, took in told
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all of them by default")
    parser.add_argument("--predictions", type=int, default=10_000_000, help="of the busy day")
    parser.add_argument("--rows", type=int, default=10_000_000, help="that are counted")
    parser.add_argument("--compared", type=int, default=1_000_000, help="rows of each table that is compared")
    parser.add_argument("--worlds", type=int, default=100, help="with late labels, of each kind")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chart", type=Path, metavar="SVG", help="draw what was measured")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="keep days and what was measured here, to go on from"
    )
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="stk-monitoring-")))
        folder.mkdir(parents=True, exist_ok=True)
        panels = folder / "panels.json"
        kept = json.loads(panels.read_text()) if panels.exists() else {}
        measure = {
            "days": lambda: look(folder, options.predictions, options.rounds),
            "histograms": lambda: count(folder, options.rows, options.rounds),
            "comparisons": lambda: compare(folder, options.compared, options.rounds),
            "labels": lambda: late(options.worlds, 20_000),
        }
        for part in options.parts or PARTS:
            title, bars = measure[part]()
            kept[part] = [title, [vars(bar) for bar in bars]]
            panels.write_text(json.dumps(kept))
    if options.chart:
        shown = [(kept[part][0], [Bar(**bar) for bar in kept[part][1]]) for part in PARTS if part in kept]
        options.chart.write_text(chart.page("What monitoring costs, and the bias under late labels", shown))


if __name__ == "__main__":
    sys.exit(main())
