"""How a number is told: one JSON object per line on standard output; progress goes to standard error."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import version
from typing import Any


def tell(
    name: str, value: float | None, unit: str, target: float | None = None, higher: bool = True, **peers: Any
) -> None:
    """One line of JSON."""
    row: dict[str, Any] = {"name": name, "value": value if value is None else float(f"{value:.4g}"), "unit": unit}
    row |= {"target": target, "higher_is_better": higher}
    if target is not None and value is not None:
        row["met"] = value >= target if higher else value <= target
    libraries = {library: version(library) for library in ("lightgbm", "uvicorn", "numpy")}
    machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    print(json.dumps({**row, "peers": peers, "versions": {**machine, **libraries}}), flush=True)


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)
