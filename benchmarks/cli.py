"""How long `stk-ml --help` takes, as a multiple of a bare interpreter that does nothing. Interleaved, medians."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

RUNS = 21


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    script = Path(sys.executable).with_name("stk-ml")
    commands = {
        "bare": [sys.executable, "-c", "pass"],
        "--help": [str(script), "--help"],
        "train --help": [str(script), "train", "--help"],
        "features --help": [str(script), "features", "--help"],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for run in range(RUNS + 1):
        for name, command in commands.items():
            taken = seconds(command)
            if run:  # the first round warms the file cache
                times[name].append(taken)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name in list(commands)[1:]:
        print(
            json.dumps(
                {
                    "name": f"cli: stk-ml {name} against python -c pass",
                    "value": round(medians[name] / medians["bare"], 2),
                    "unit": "times",
                    "target": 8 if name == "--help" else None,
                    "higher_is_better": False,
                    "peers": {
                        "python -c pass, ms": round(medians["bare"] * 1000, 1),
                        "stk-ml, ms": round(medians[name] * 1000, 1),
                    },
                    "versions": {"python": platform.python_version()},
                }
            )
        )


if __name__ == "__main__":
    main()
