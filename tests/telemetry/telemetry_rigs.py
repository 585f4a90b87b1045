"""What the tests of telemetry are made with."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from stk_ml.artifact.profile import ColumnProfile, Profile
from stk_ml.artifact.schema import FeatureField, FeatureSchema
from stk_ml.errors import TelemetryError
from stk_ml.telemetry import kusto
from stk_ml.telemetry.histogram import FeatureBins
from stk_ml.telemetry.protocol import Batch, Event, Source

SOURCE = Source("eta", "v3", "flight-delay", 3, "ab12", "w1")
KINDS = ("air", "rail", "road", "sea")


def looks_while(work: Callable[[], None]) -> Iterator[int]:
    """Numbers of the looks that somebody takes while ``work`` is done in another thread; its failure is raised."""
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(work)
        for look in itertools.count(1):
            if done.done():
                break
            yield look
        done.result()


def column(name: str, edges: Iterable[float] = (), categories: Iterable[str] = ()) -> ColumnProfile:
    """A column of a profile that has seen nothing."""
    edges, categories = tuple(edges), tuple(categories)
    bins = len(categories) or max(len(edges) - 1, 0)
    return ColumnProfile(name, edges, categories, ((0,) * bins,), *(((0,),) * 5))


def bins_of() -> FeatureBins:
    fields = (
        FeatureField("km", "number"),
        FeatureField("stops", "integer"),
        FeatureField("express", "boolean"),
        FeatureField("kind", "category", KINDS),
    )
    columns = (
        column("km", np.linspace(0, 100, 21).tolist()),
        column("stops", (0.0, 1.0, 2.0, 5.0, 5.0)),
        column("express", (0.0, 1.0, 1.0)),
        column("kind", categories=("air", "road", "sea")),
    )
    score = column("score", np.linspace(0, 1, 11).tolist())
    return FeatureBins(FeatureSchema(fields), Profile(("all",), {}, (), columns, ("all",), score))


def matrix_of(rows: int, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """Rows as a decoder gives them, with what is missing, unseen and out of range among them."""
    matrix = np.column_stack(
        [
            generator.uniform(-10, 110, rows),
            generator.integers(-1, 7, rows).astype(float),
            generator.integers(0, 2, rows).astype(float),
            generator.integers(-1, len(KINDS), rows).astype(float),
        ]
    )
    matrix[generator.random((rows, 4)) < 0.1] = np.nan
    return matrix


class Log:
    """Keeps batches in memory; refuses them while ``down``."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.down: Exception | None = None
        self.closed = False
        self.wrote = threading.Event()

    def write(self, batch: Batch) -> None:
        if self.down is not None:
            raise self.down
        self.batches.append(batch)
        self.wrote.set()

    def close(self) -> None:
        self.closed = True

    def fail(self) -> None:
        self.down = TelemetryError("the disk is full")

    def events(self, name: str) -> list[Event]:
        return named(self.batches, name)

    def rows(self) -> Counter[str]:
        """Rows told of, by kind of record."""
        return told(self.batches)


def named(batches: Iterable[Batch], name: str) -> list[Event]:
    return [event for batch in batches for event in batch.events if event.name == name]


def told(batches: Iterable[Batch]) -> Counter[str]:
    """Rows told of in histograms (of the score), predictions and losses; requests in metrics."""
    batches = list(batches)
    found: Counter[str] = Counter()
    for event in named(batches, "stk.histogram"):
        if event.properties["kind"] == "score":
            found["histogram"] += int(event.properties["rows"])
    for event in named(batches, "stk.predictions"):
        found["predictions"] += len(json.loads(event.properties["scores"]))
    for event in named(batches, "stk.dropped"):
        found["dropped"] += int(event.properties["rows"])
    for batch in batches:
        found["requests"] += sum(metric.count for metric in batch.metrics if metric.name == "stk.requests")
        found["scores"] += sum(metric.count for metric in batch.metrics if metric.name == "stk.scores")
    return +found


def predictions(batches: Iterable[Batch]) -> list[tuple[str, str, float, int]]:
    """Id, row id, score and milliseconds of each prediction."""
    found: list[Any] = []
    for event in named(batches, "stk.predictions"):
        scores, times = json.loads(event.properties["scores"]), json.loads(event.properties["times"])
        ids = json.loads(event.properties["ids"])
        row_ids = json.loads(event.properties.get("row_ids", "null")) or [""] * len(scores)
        found += zip(ids, row_ids, scores, times, strict=True)
    return found


def parameters_of(name: str, **others: kusto.Parameter) -> dict[str, kusto.Parameter]:
    """Values of the parameters that a query of the log takes."""
    every: dict[str, kusto.Parameter] = {
        "since": datetime(2026, 3, 1, tzinfo=UTC),
        "until": datetime(2026, 3, 3, tzinfo=UTC),
        "model": "flight-delay",
        "endpoint": "",
        "deployment": "",
        "digest": "",
        "shadows": False,
        "every": 3_600_000_000,
        "request_id": "request-1",
        "fragment": "request-1",
        "digests": "^",
    }
    return {key: {**every, **others}[key] for key in kusto.takes(name)}
