"""Rows are split by time, with an embargo, and never learned from before their label was known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stk_ml.errors import SplitError
from stk_ml.model_spec import DataSpec, ModelSpec, SplitSpec
from stk_ml.training.splits import NAMES, split

START = np.datetime64("2024-01-01", "us")
HOUR = np.timedelta64(1, "h")


def model(split_spec: SplitSpec, delay: str = "0d") -> ModelSpec:
    return ModelSpec("m", "binary", DataSpec("late", table="t", as_of="at", label_delay=delay), split_spec)


def hours(*values: int) -> np.ndarray:
    return START + np.array(values) * HOUR


def test_each_date_is_the_first_instant_of_the_next_part() -> None:
    dates = SplitSpec(
        start="2024-01-01T01:00",
        validation_from="2024-01-01T03:00",
        test_from="2024-01-01T05:00",
        until="2024-01-01T07:00",
    )
    parts = split(model(dates), 9, hours(*range(9)))
    assert [parts.part(name).tolist() for name in NAMES] == [[1, 2], [3, 4], [5, 6]]
    assert (parts.purged, parts.outside) == (0, 3)
    assert parts.boundaries == {"validation_from": "2024-01-01T03:00:00Z", "test_from": "2024-01-01T05:00:00Z"}


def test_rows_whose_label_was_not_known_at_the_next_boundary_are_purged_and_counted() -> None:
    dates = SplitSpec(validation_from="2024-01-01T10:00", test_from="2024-01-01T20:00")
    parts = split(model(dates, "3h"), 30, hours(*range(30)))
    assert parts.train.tolist() == list(range(8))
    assert parts.validation.tolist() == list(range(10, 18))
    assert parts.test.tolist() == list(range(20, 30))
    assert parts.purged == 4


def test_a_late_or_missing_label_time_purges_too() -> None:
    dates = SplitSpec(validation_from="2024-01-01T03:00", test_from="2024-01-01T05:00")
    known = hours(1, 2, 3, 4, 5, 6, 7)
    known[0], known[1] = hours(4)[0], np.datetime64("NaT")
    parts = split(model(dates), 7, hours(*range(7)), known)
    assert parts.train.tolist() == [2]
    assert parts.purged == 2


def test_rows_need_not_be_sorted() -> None:
    dates = SplitSpec(validation_from="2024-01-01T02:00", test_from="2024-01-01T04:00")
    parts = split(model(dates), 6, hours(5, 0, 3, 1, 4, 2))
    assert [parts.part(name).tolist() for name in NAMES] == [[1, 3], [2, 5], [0, 4]]


@settings(max_examples=60, deadline=None)
@given(
    at=st.lists(st.integers(0, 500), min_size=40, max_size=200),
    late=st.integers(0, 20),
    delay=st.integers(0, 10),
    validation=st.floats(0.1, 0.4),
    test=st.floats(0.1, 0.4),
)
def test_no_part_ever_holds_what_was_not_known_at_its_end(
    at: list[int], late: int, delay: int, validation: float, test: float
) -> None:
    as_of = hours(*at)
    known = as_of + np.random.default_rng(0).integers(0, late + 1, len(at)) * HOUR
    try:
        parts = split(model(SplitSpec(validation=validation, test=test), f"{delay}h"), len(at), as_of, known)
    except SplitError:
        return
    assert parts.boundaries is not None
    first, second = (np.datetime64(parts.boundaries[name][:-1]) for name in ("validation_from", "test_from"))
    assert (as_of[parts.train] < first).all()
    assert (known[parts.train] <= first).all()
    assert (as_of[parts.train] + delay * HOUR <= first).all()
    assert ((as_of[parts.validation] >= first) & (as_of[parts.validation] < second)).all()
    assert (known[parts.validation] <= second).all()
    assert (as_of[parts.test] >= second).all()
    used = np.concatenate([parts.part(name) for name in NAMES])
    assert len(np.unique(used)) == len(used)
    assert len(used) + parts.purged + parts.outside == len(at)


def test_fractions_are_of_the_rows_in_time_order() -> None:
    parts = split(model(SplitSpec(validation=0.2, test=0.3)), 100, hours(*range(100)))
    assert parts.rows() == {"train": 50, "validation": 20, "test": 30}


def test_without_time_the_split_is_random_seeded_and_says_that_it_flatters() -> None:
    one, same = (split(model(SplitSpec(seed=3)), 1000) for _ in range(2))
    other = split(model(SplitSpec(seed=4)), 1000)
    assert one.test.tolist() == same.test.tolist() != other.test.tolist()
    assert one.rows() == {"train": 650, "validation": 150, "test": 200}
    assert "flatters" in one.note
    assert "--time" in one.note
    assert (np.diff(one.train) > 0).all()


def test_an_empty_part_is_refused_with_the_boundaries_and_the_range_of_the_data() -> None:
    dates = SplitSpec(validation_from="2030-01-01", test_from="2031-01-01")
    with pytest.raises(
        SplitError, match=r"the validation part is empty: validation from 2030-01-01T00:00:00Z, test from 2031"
    ) as caught:
        split(model(dates), 5, hours(*range(5)))
    assert "at runs from 2024-01-01T00:00:00Z to 2024-01-01T04:00:00Z" in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("spec", "as_of", "says"),
    [
        (SplitSpec(), np.array([], "datetime64[us]"), "no rows"),
        (SplitSpec(), np.array(["2024-01-01", "NaT"], "datetime64[us]"), "missing in 1 of 2 rows"),
        (SplitSpec(start="2030-01-01"), hours(1, 2), "no row lies between"),
        (SplitSpec(), hours(1, 1, 1), "the train part is empty"),
        (SplitSpec(), None, "the test part of 2 rows is empty"),
    ],
)
def test_what_cannot_be_split_is_told(spec: SplitSpec, as_of: np.ndarray | None, says: str) -> None:
    with pytest.raises(SplitError, match=says):
        split(model(spec), 2 if as_of is None else len(as_of), as_of)
