"""What monitoring costs, and what late labels do to it. JSON lines, one per number, and a chart.

days: a look of ``stk-ml monitor run`` at a day with 1,000 and with many predictions, telemetry written by the real
recorder and merged hour by hour. Looks are interleaved, numbers are medians.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

from monitoring import days
from serving.tell import say, tell

FEW, MANY, ROUNDS = 1000, 10_000_000, 5


def watch(folder: Path, many: int, rounds: int) -> None:
    """The cost of a look at a day with few and with many predictions."""
    artifact = days.train(folder)
    watched = {count: days.Watched(folder / f"day-{count}", artifact, count) for count in (FEW, many)}
    for count, day in watched.items():
        say(f"scoring {count:,} rows on a day")
        day.make()
        say(f"the log has {days.size(day.log)[0]} files of {days.size(day.log)[1]:.0f} MB")
    seconds: dict[int, list[float]] = {count: [] for count in watched}
    for turn in range(rounds + 1):
        for count, day in watched.items():
            took, verdict = day.look()
            if turn:  # the first look pays for imports
                seconds[count].append(took)
            say(f"{count:,}: {took:.2f} s, {verdict.answer}")
    few, most = (statistics.median(seconds[count]) for count in watched)
    tell(
        f"look at a day of {many:,} predictions against {FEW:,}", most / few, "times", 2.0, higher=False, s=[few, most]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--predictions", type=int, default=MANY, help="of the busy day")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="stk-monitoring-"))
    try:
        watch(folder, options.predictions, options.rounds)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
