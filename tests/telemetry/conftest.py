"""A small model's bins, rows as its decoder would give them, and logs that fail on demand."""

from __future__ import annotations

import numpy as np
import pytest
from telemetry_rigs import Log, bins_of

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
