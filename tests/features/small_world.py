"""A small world of flights whose times of knowledge are known exactly."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa

from stk_ml.contracts import Dataset
from stk_ml.features.catalog import Catalog
from stk_ml.features.local import DuckDBFeatureEngine
from stk_ml.lake.lake import Lake
from stk_ml.model_spec import DataSpec, FeatureUse, ModelSpec

START = datetime(2024, 1, 1, tzinfo=UTC)
FLIGHTS = 2000

SOURCES = """\
raw.flights:
  known: "scheduled - INTERVAL 30 DAY"
  columns: {dep_delay: departed, departed: departed, arr_delay: landed, landed: landed}
raw.weather:
  known: "time_hour + INTERVAL 1 HOUR"
"""
DEPARTURES = """\
SELECT flight_id, carrier, tail, scheduled - INTERVAL 2 HOUR AS as_of, scheduled AS event_time,
       scheduled - INTERVAL 30 DAY AS known_time, extract(hour FROM scheduled) AS hour,
       arr_delay > 15 AS late, landed AS label_time
FROM raw.flights
WHERE arr_delay IS NOT NULL
"""
RATES = """\
SELECT carrier, landed AS event_time, landed AS known_time,
       avg(CASE WHEN arr_delay > 15 THEN 1 ELSE 0 END) OVER (
         PARTITION BY carrier ORDER BY landed RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW
       ) AS rate
FROM raw.flights
WHERE landed IS NOT NULL
"""
WEATHER = (
    "SELECT 'HAL' AS airport, time_hour AS event_time, time_hour + INTERVAL 1 HOUR AS known_time, temp FROM raw.weather"
)


def header(entity: str, columns: str = "") -> str:
    text = f"""\
-- description: for a test
-- owner: tests
-- entity: [{entity}]
-- event_time: event_time
-- known_time: known_time
"""
    return text + (f"-- columns:\n{columns}" if columns else "")


@dataclass
class Project:
    """A lake, its views and an engine."""

    root: Path
    lake: Lake

    @property
    def views(self) -> Path:
        return self.root / "features"

    def view(self, name: str, sql: str, entity: str, columns: str = "") -> None:
        (self.views / f"{name}.sql").write_text(header(entity, columns) + sql, "utf-8")

    @property
    def engine(self) -> DuckDBFeatureEngine:
        return DuckDBFeatureEngine(self.lake, Catalog(self.views), threads=2)

    def spec(self, **data: object) -> ModelSpec:
        plain: dict[str, object] = {
            "target": "late",
            "spine": "departures",
            "entity": ("flight_id",),
            "as_of": "as_of",
            "label_time": "label_time",
            "exclude": ("tail",),
            "features": (FeatureUse("rates", lookback="2d"),),
        }
        return ModelSpec("flight-delay", "binary", DataSpec(**(plain | data)))  # type: ignore[arg-type]

    def pull(self, spec: ModelSpec | None = None, **options: object) -> Dataset:
        spec = spec or self.spec()
        engine = self.engine
        raw = engine.snapshot(spec)
        names = [spec.data.spine, *(use.view for use in spec.data.features)]
        return engine.pull(spec, engine.build(names, raw), self.root / "out", raw=raw, **options)  # type: ignore[arg-type]


def flights(count: int = FLIGHTS, seed: int = 7) -> pa.Table:
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        scheduled = START + timedelta(minutes=20 * number)
        delay = rng.gauss(10, 20)
        departed = scheduled + timedelta(minutes=max(delay, -10))
        rows.append(
            {
                "flight_id": number,
                "carrier": rng.choice("ABC"),
                "tail": f"N{rng.randrange(50)}",
                "scheduled": scheduled,
                "dep_delay": delay,
                "arr_delay": delay + rng.gauss(0, 5),
                "departed": departed,
                "landed": departed + timedelta(hours=2),
            }
        )
    return pa.Table.from_pylist(rows)
