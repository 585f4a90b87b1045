from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stk_ml.telemetry import latency

SECONDS = st.floats(0, 1000, allow_nan=False)


def counted(values: list[float]) -> list[int]:
    counts = [0] * latency.BINS
    for value in values:
        counts[latency.bin(value)] += 1
    return counts


def test_edges_rise_by_a_fixed_ratio_from_50_microseconds_past_100_seconds() -> None:
    ratios = np.diff(np.log2(latency.EDGES))
    assert latency.EDGES[0] == 50e-6
    assert latency.EDGES[-1] >= 100
    assert np.allclose(ratios, 0.25)


@given(SECONDS)
def test_a_latency_falls_between_the_edges_of_its_bin(seconds: float) -> None:
    edges = (-math.inf, *latency.EDGES, math.inf)
    place = latency.bin(seconds)
    assert edges[place] <= seconds < edges[place + 1]


@given(st.lists(SECONDS, min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_within_one_ratio_of_the_true_one(values: list[float], share: float) -> None:
    true = sorted(values)[max(math.ceil(share * len(values)), 1) - 1]
    found = latency.quantile(counted(values), share)
    if true >= latency.EDGES[-1]:
        assert found == latency.EDGES[-1]
    elif true < latency.EDGES[0]:
        assert 0 <= found <= latency.EDGES[0]
    else:
        assert true / 2**0.25 <= found * (1 + 1e-9)
        assert found <= true * 2**0.25 * (1 + 1e-9)


@given(st.lists(st.lists(SECONDS, max_size=50), max_size=5))
def test_counts_of_parts_add_up_to_the_counts_of_the_whole(parts: list[list[float]]) -> None:
    whole = counted([value for part in parts for value in part])
    assert latency.merge(*map(counted, parts)) == tuple(whole)


def test_quantiles_rise_with_the_share() -> None:
    counts = counted(np.random.default_rng(1).lognormal(-6, 1, 1000).tolist())
    found = [latency.quantile(counts, share) for share in np.linspace(0, 1, 101)]
    assert found == sorted(found)


def test_no_requests_have_no_quantile_and_odd_latencies_are_counted() -> None:
    assert latency.quantile((), 0.5) == 0.0
    assert latency.bin(math.nan) == latency.BINS - 1
    assert latency.bin(-1.0) == 0


def test_counts_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        latency.merge((1, 2))
