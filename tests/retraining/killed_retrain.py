"""A retrain whose world is a folder. ``killed_retrain.py FOLDER N ENDS`` kills itself before change N.

The world does what a registry and an endpoint do: it promotes behind the gate, rolls out, restores, and may be asked
the same twice.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stk_ml.contracts import Champion, GateVerdict, ModelVersion, Registration
from stk_ml.model_spec import DataSpec, ModelSpec, SplitSpec
from stk_ml.retraining import trigger
from stk_ml.retraining.ledger import RunLedger
from stk_ml.retraining.policy import Alert, Retrain
from stk_ml.retraining.window import TrainingWindow

JUNE = datetime(2024, 6, 1, tzinfo=UTC)
SPEC = ModelSpec(
    "m",
    "binary",
    DataSpec("y", table="t", as_of="day"),
    SplitSpec(validation_from="2024-01-01", test_from="2024-02-01"),
)


@dataclass
class World:
    """Files ``champion``, ``serves`` and ``calls`` in a folder; the champion is version 1 at first.

    Attributes:
        gate: whether the gate lets version 2 pass.
        canary_ends: how a rollout of it ends.
        before: called before each change.
        fails: name of a step that raises; ``trained``: what does so once the gate has promoted.
        breaks: name of a step during which the data is found to be broken.
    """

    folder: Path
    gate: bool = True
    canary_ends: Any = "promoted"
    fails: str = ""
    breaks: str = ""
    before: Any = field(default=lambda: None)

    def read(self, name: str) -> int:
        file = self.folder / name
        return int(file.read_text()) if file.exists() else 1

    def write(self, name: str, version: int) -> None:
        self.before()
        aside = self.folder / f".{name}.tmp"
        aside.write_text(str(version))
        aside.replace(self.folder / name)

    def call(self, name: str) -> None:
        with (self.folder / "calls").open("a") as file:
            file.write(f"{name}\n")
        if name == self.breaks:
            alert = Alert("q", "broken", "2024-06-01T00:00:00Z", "weight in grams")
            assert RunLedger(self.folder / "m", "m").decide(SPEC.retrain, [alert], now=JUNE).decision.notify
        if name == self.fails:
            raise OSError(f"the disk of {name} is full")

    def champion(self) -> int:
        return self.read("champion")

    def train(self, run: Retrain, window: TrainingWindow) -> Registration:
        self.call("train")
        before = self.champion()
        if before == 2:
            verdict = GateVerdict("same", False, "version 2 again")
        else:
            verdict = GateVerdict("better" if self.gate else "worse", self.gate, "by 0.01")
            if self.gate:
                self.write("champion", 2)
        if self.fails == "trained":
            raise OSError("the disk of trained is full")
        aliases = ("champion",) if self.champion() == 2 else ("challenger",)
        return Registration(ModelVersion("m", 2, "bb", aliases=aliases), verdict, Champion("m", before, "aa"), "", "")

    def canary(self, run: Retrain) -> tuple[trigger.Canary, str]:
        self.call("canary")
        if self.canary_ends == "promoted":
            self.write("serves", 2)
        return self.canary_ends, "as the canary showed"

    def restore(self, run: Retrain) -> None:
        self.call("restore")
        if run.champion > 0 and self.read("champion") == (run.version or self.read("champion")):
            self.write("champion", run.champion)


def retrain(folder: Path, world: World) -> Retrain | None:
    ledger = RunLedger(folder / "m", "m")
    ledger.decide(SPEC.retrain, [Alert("a", "fired", "2024-06-01T00:00:00Z", "drift")], now=JUNE)
    return trigger.execute(ledger, SPEC, world, clock=lambda: JUNE)


if __name__ == "__main__":
    left = int(sys.argv[2])

    def die() -> None:
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1

    class Killer(sqlite3.Connection):
        def execute(self, sql: str, *words: Any) -> sqlite3.Cursor:
            if sql == "COMMIT":
                die()
            return super().execute(sql, *words)

    connect: Any = sqlite3.connect
    sqlite3.connect = lambda *words, **more: connect(*words, factory=Killer, **more)
    ended = retrain(Path(sys.argv[1]), World(Path(sys.argv[1]), canary_ends=sys.argv[3], before=die))
    print(ended.outcome if ended else "nothing")
