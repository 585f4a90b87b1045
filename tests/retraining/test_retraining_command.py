"""``stk-ml retrain`` as a user runs it: verdicts, a kill amid the canary, a promotion, the status."""

from __future__ import annotations

import csv
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stk_ml import contracts
from stk_ml.monitor_state import MonitorVerdict, QualityFinding

MODEL = """\
name: shop-late
problem: binary
data: {table: shop.csv, target: late, as_of: day}
split: {start: 2024-01-01, validation_from: 2024-04-10, test_from: 2024-05-01}
learner: {params: {num_leaves: 7}}
gate: {floor: 0.5, calibration_error: 0.5}
retrain: {windows: 2, of: 3}
"""
CANARY = ["--min-requests", "30", "--min-seconds", "0", "--score-shift", "50", "--latency-ratio", "1000"]
CANARY += ["--error-rate", "0.9", "--steps", "50,100"]


class Shop:
    """A project whose customers turn round after May: what was late is punctual."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.monitoring = folder, folder / ".stk" / "monitoring" / "shop-late"
        (folder / "stk.toml").write_text('[project]\nname = "shop"\n[profile.laptop]\nlake = "lake"\n')
        (folder / "pipelines" / "models").mkdir(parents=True)
        (folder / "pipelines" / "models" / "shop-late.yml").write_text(MODEL)
        draw = random.Random(5)
        with (folder / "shop.csv").open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["day", "distance", "late"])
            for index in range(3500):
                day = datetime(2024, 1, 1) + timedelta(hours=2.4 * index)
                distance = draw.uniform(1, 900)
                signal_ = distance / 150 - 3 if day < datetime(2024, 6, 1) else 3 - distance / 150
                rows.writerow([day.isoformat(), round(distance, 1), int(draw.random() < 1 / (1 + math.exp(-signal_)))])

    def popen(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "stk_ml", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.folder, env=dict(os.environ), stdout=pipe, stderr=pipe, text=True)

    def stk(self, *words: str, code: int = 0) -> Any:
        with self.popen("--json", *words) as process:
            try:
                output, errors = process.communicate(timeout=200)
            finally:
                process.kill()
        assert process.returncode == code, f"{process.returncode}\n{output}\n{errors}"
        return json.loads(output)

    def rollout(self) -> bool:
        """Whether a canary has begun."""
        return (self.folder / ".stk" / "endpoints" / "shop-late" / "rollout.json").is_file()

    def look(self, day: int, *, broken: bool = False, digest: str = "d") -> None:
        found = (QualityFinding("unit", "distance", "1,000 times what it was"),) if broken else ()
        start, end = f"2024-11-{day - 1:02}T00:00:00Z", f"2024-11-{day:02}T00:00:00Z"
        look = MonitorVerdict("shop-late", 1, digest, "shop-late", "v1", start, end, 900, "drift", quality=found)
        contracts.write(look, self.monitoring / "verdicts" / f"{end}.json")

    @contextmanager
    def customers(self) -> Iterator[None]:
        """Ask the endpoint for scores for as long as the block runs."""
        url = self.stk("endpoint", "status", "shop-late")["url"]
        with self.popen("endpoint", "keys", "shop-late", "--show", "primary") as process:
            key = process.communicate(timeout=60)[0].strip()
        over, draw = threading.Event(), random.Random(3)

        def ask() -> None:
            headers = {"x-api-key": key, "content-type": "application/json"}
            while not over.wait(0.01):
                body = json.dumps({"data": [{"distance": draw.uniform(1, 900)}]}).encode()
                urllib.request.urlopen(urllib.request.Request(f"{url}/score", body, headers), timeout=20).read()

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def test_it_rests_is_blocked_and_would_start_as_the_verdicts_say(shop: Shop) -> None:
    now = ("--now", "2024-11-20")
    assert shop.stk("retrain", "shop-late", *now)["decision"]["action"] == "rest"
    shop.look(10)
    shop.look(11, broken=True)
    blocked = shop.stk("retrain", "shop-late", *now, code=1)
    assert blocked["decision"]["action"] == "blocked"
    assert "1,000 times" in blocked["decision"]["reason"]
    assert shop.stk("retrain", "shop-late", "--why", "new tariff", *now, code=1)["decision"]["action"] == "blocked"
    status = shop.stk("retrain", "shop-late", "--status", *now)
    assert (status["status"], len(status["decisions"])) == ("blocked", 3)
    shop.look(12)
    would = shop.stk("retrain", "shop-late", "--dry-run", *now)
    assert (would["decision"]["action"], would["decision"]["reason"]) == ("start", "new tariff")
    assert shop.stk("retrain", "shop-late", "--status", *now)["runs"] == []


def test_what_is_mistyped_is_told(shop: Shop) -> None:
    assert "unknown model 'shop-lat'" in shop.stk("retrain", "shop-lat", code=2)["error"]["message"]
    assert "--now" in shop.stk("retrain", "shop-late", "--now", "soon", code=2)["error"]["message"]
    contracts.write(MonitorVerdict("", 0, "", "", "", "", "", 900, "drift"), shop.folder / "tables.json")
    refused = shop.stk("retrain", "shop-late", "--dry-run", "--verdict", "tables.json", code=2)
    assert "without the times of its window" in refused["error"]["message"]
    file = shop.folder / "pipelines" / "models" / "shop-late.yml"
    for long in ("9999999999d", "3000000d"):
        file.write_text(MODEL.replace("of: 3", f"of: 3, cooldown: {long}"))
        message = shop.stk("retrain", "shop-late", "--status", code=2)["error"]["message"]
        assert "retrain.cooldown" in message
        assert "longer than" in message
    file.write_text(MODEL)
    (shop.monitoring / "verdicts").mkdir(parents=True)
    (shop.monitoring / "verdicts" / "half.json").write_text('{"model": "shop-')
    assert "half.json is not a MonitorVerdict" in shop.stk("retrain", "shop-late", code=1)["error"]["message"]


@pytest.mark.slow
def test_a_drift_is_retrained_once_killed_amid_the_canary_and_promoted_by_the_next_call(shop: Shop) -> None:
    shop.stk("train", "shop-late", "--now", "2024-06-01")
    shop.stk("deploy", "shop-late")
    try:
        shop.look(10)
        shop.look(11)
        words = ("retrain", "shop-late", "--now", "2024-11-20", *CANARY)
        with shop.popen(*words) as killed:
            try:
                while not shop.rollout():
                    with pytest.raises(subprocess.TimeoutExpired):
                        killed.wait(0.1)
            finally:
                killed.send_signal(signal.SIGKILL)
        status = shop.stk("retrain", "shop-late", "--status", "--now", "2024-11-20")
        assert (status["status"], status["step"], status["worked_on"]) == ("running", "canary", False)

        with shop.customers():
            ended = shop.stk(*words)["run"]
        assert (ended["outcome"], ended["champion"], ended["version"]) == ("promoted", 1, 2), ended
        assert shop.stk("models", "show", "shop-late@champion")["version"]["version"] == 2
        served = {each["version"]: each["traffic"] for each in _deployments(shop)}
        assert served == {1: 0, 2: 100}
        assert shop.stk(*words)["decision"]["action"] == "rest"
        status = shop.stk("retrain", "shop-late", "--status", "--now", "2024-11-20")
        assert (len(status["runs"]), status["status"], status["until"]) == (1, "cooling", "2024-11-27T00:00:00Z")
    finally:
        shop.stk("endpoint", "delete", "shop-late")


def _deployments(shop: Shop) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = shop.stk("endpoint", "status", "shop-late")["state"]["deployments"]
    return found
