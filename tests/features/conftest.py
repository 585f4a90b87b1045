"""Fixtures of the features room; what they make is in small_world.py."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from small_world import DEPARTURES, FLIGHTS, RATES, SOURCES, START, WEATHER, Project, flights

from stk_ml.lake.lake import Lake


@pytest.fixture
def project(tmp_path: Path) -> Project:
    lake = Lake(str(tmp_path / "lake"))
    lake.table("raw.flights").append(flights())
    rng = random.Random(11)
    hours = range(FLIGHTS // 3 + 10)
    weather = [{"time_hour": START + timedelta(hours=hour), "temp": rng.gauss(10, 5)} for hour in hours]
    lake.table("raw.weather").append(pa.Table.from_pylist(weather))
    made = Project(tmp_path, lake)
    made.views.mkdir()
    (made.views / "sources.yml").write_text(SOURCES, "utf-8")
    made.view("departures", DEPARTURES, "flight_id")
    made.view("rates", RATES, "carrier", "--   rate: {type: number, minimum: 0, maximum: 1}\n")
    made.view("weather", WEATHER, "airport")
    return made


@pytest.fixture
def write_view(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str, name: str = "some") -> Path:
        file = tmp_path / f"{name}.sql"
        file.write_text(text, "utf-8")
        return file

    return write
