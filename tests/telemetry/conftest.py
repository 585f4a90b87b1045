"""A small model's bins, rows as its decoder would give them, and logs that fail on demand."""

from __future__ import annotations

import numpy as np
import pytest
from telemetry_rigs import Log, bins_of
from telemetry_written import SOURCES, START, Written, record

from stk_ml.telemetry.compaction import compact
from stk_ml.telemetry.histogram import FeatureBins


@pytest.fixture(scope="session")
def bins() -> FeatureBins:
    """A number, an integer, a boolean and a category."""
    return bins_of()


@pytest.fixture
def log() -> Log:
    """A log in memory."""
    return Log()


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Six recorders' logs: the first day's files are merged, and some that were replaced are still there."""
    written = Written(tmp_path_factory.mktemp("log"))
    generator = np.random.default_rng(5)
    for source in SOURCES:
        record(written, source, generator)
    before = {path: path.read_bytes() for path in written.folder.rglob("*.parquet")}
    assert compact(written.folder, START + 2.5 * 3600) > 10
    left_behind = [path for path in before if not path.exists()][::3]
    assert left_behind
    for path in left_behind:
        path.write_bytes(before[path])
    return written
