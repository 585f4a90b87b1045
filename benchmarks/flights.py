"""The real year of flights from a clean project: quality in honest time order, and what a run and a cached run take.

The model is fitted on January to June; July to December is only measured. A second model leaves out everything that
needs the tail number, because the source tells which plane flew, not which plane was planned two hours before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

PEERS = {"schedule alone": 0.642, "schedule and known weather": 0.697, "simple rolling late rates": 0.731}
TAIL = ("plane", "tail_delays", "inbound")


def stk(*words: str, folder: Path) -> tuple[Any, float]:
    """What a command answers, and the seconds it took as a process."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "stk_ml", *words, "--json", "--quiet"]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return json.loads(done.stdout), time.perf_counter() - start


def without_tail(folder: Path) -> Path:
    """The model file without the views that need the tail number."""
    import yaml

    document = yaml.safe_load(
        (folder / "pipelines/models/flight-delay.yml").read_text().replace("\n      on:", '\n      "on":')
    )
    document["name"] = "flight-delay-without-tail"
    document["data"]["features"] = [use for use in document["data"]["features"] if use["view"] not in TAIL]
    document["split"] = {name: str(value) for name, value in document["split"].items()}
    file = folder / "pipelines/models/flight-delay-without-tail.yml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    return file


def groups(answer: Any, *names: str) -> dict[str, dict[str, Any]]:
    """Metrics of the test split by group."""
    test = [row for row in answer["metrics"] if row["split"] == "test" and row["group"].startswith(names)]
    return {row["group"]: row["values"] for row in test}


def shown(interval: dict[str, float]) -> str:
    """An estimate with its interval."""
    return f"{interval['value']:.4f} ({interval['low']:.4f} to {interval['high']:.4f})"


def tell(name: str, value: float, unit: str, *, target: float | None = None, higher: bool = True, **peers: Any) -> None:
    """One line of JSON."""
    libraries = {library: version(library) for library in ("lightgbm", "duckdb", "mlflow-skinny")}
    row = {"name": name, "value": value, "unit": unit, "target": target, "higher_is_better": higher}
    print(json.dumps({**row, "peers": peers, "versions": {"cpus": os.cpu_count(), **libraries}}), flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "flights"
        subprocess.run(
            [sys.executable, "-m", "stk_ml", "init", str(folder), "--quiet", "--json"], check=True, stdout=-3
        )
        _, loading = stk("example", "flights", folder=folder)
        answer, seconds = stk("train", "flight-delay", folder=folder)
        _, again = stk("train", "flight-delay", folder=folder)
        auc = groups(answer, "all")["all"]["auc"]
        months = {name: shown(row["auc"]) for name, row in groups(answer, "month=").items()}
        tell("flights: AUC July to December", round(auc["value"], 4), "AUC", target=0.735, interval=shown(auc), **PEERS)
        tell("flights: AUC by month", round(auc["value"], 4), "AUC", **months)
        evaluation = json.loads((Path(answer["card"]).parent / "evaluation.json").read_text())
        table = {
            f"{b['low']:.3f} to {b['high']:.3f}": f"{b['predicted']:.3f} -> {shown(b['observed'])}"
            for b in evaluation["calibration"]
        }
        error = groups(answer, "all")["all"]["calibration_error"]["value"]
        tell(
            "flights: calibration error, predicted -> observed by bin", round(error, 4), "share", higher=False, **table
        )
        bare, _ = stk("train", str(without_tail(folder)), folder=folder)
        auc = groups(bare, "all")["all"]["auc"]
        months = {name: shown(row["auc"]) for name, row in groups(bare, "month=").items()}
        tell(
            "flights: AUC July to December without tail numbers", round(auc["value"], 4), "AUC", target=0.735, **months
        )
        steps = {name: f"{step['seconds']:.1f} s" for name, step in answer["steps"].items()}
        tell("flights: whole training", round(seconds, 1), "s", higher=False, loading=f"{loading:.1f} s", **steps)
        tell("flights: cached re-run of the whole pipeline", round(again, 2), "s", target=3, higher=False)


if __name__ == "__main__":
    main()
