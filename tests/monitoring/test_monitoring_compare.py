"""Two tables: verdicts, what is left out, performance, and mistakes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from stk_ml.errors import ColumnContractError, DataError, UnknownNameError
from stk_ml.monitoring.compare import compare


def _table(seed: int, rows: int = 8000, shift: float = 0.0, days: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    km = rng.normal(size=rows) * 10 + shift
    score = 1 / (1 + np.exp(-km / 10))
    kind = pa.array(rng.choice(["air", "road", "sea"], rows))
    columns = {"km": km, "kind": kind, "express": rng.random(rows) < 0.3, "stops": rng.integers(0, 5, rows)}
    columns |= {"score": score, "late": (rng.random(rows) < score).astype(int)}
    if days:
        at = np.datetime64("2013-01-01", "us") + np.sort(rng.integers(0, days * 86_400, rows)).astype("timedelta64[s]")
        columns["at"] = pa.array(at)
    return pa.table(columns)


def test_two_samples_of_one_source_are_stable() -> None:
    found = compare(_table(1), _table(2), joint=False)
    assert found.verdict == "stable"
    assert [column.name for column in found.columns] == ["km", "kind", "express", "stops", "score", "late"]


def test_a_shift_is_drift_in_its_columns_and_in_the_score() -> None:
    found = compare(_table(1), _table(2, shift=5.0), target="late", prediction="score", joint=False)
    answers = {column.name: column.answer for column in found.columns}
    assert found.verdict == "drift"
    assert answers == {"km": "drift", "kind": "stable", "express": "stable", "stops": "stable", "score": "drift"}
    assert found.columns[-1].kind == "score"


def test_performance_comes_from_target_and_prediction() -> None:
    then, now = _table(1), _table(2)
    wrong = now.set_column(now.column_names.index("late"), "late", pa.array(1 - now.column("late").to_numpy()))
    fine, broken = (compare(then, t, target="late", prediction="score", joint=False) for t in (now, wrong))
    assert not any(finding.worse for finding in fine.performance)
    assert {finding.metric for finding in broken.performance if finding.worse} == {"auc", "log_loss", "brier"}


def test_a_change_of_correlation_is_left_to_the_joint_view() -> None:
    rng = np.random.default_rng(0)
    a, b, c, d = rng.normal(size=(4, 4000))
    found = compare(pa.table({"a": a, "b": b}), pa.table({"a": c, "b": 0.9 * c + np.sqrt(0.19) * d}))
    assert (found.verdict, found.joint, set(found.joint_columns)) == ("drift", "drift", {"a", "b"})
    assert {column.answer for column in found.columns} <= {"stable", "insufficient"}


def test_with_time_days_are_the_unit() -> None:
    found = compare(_table(1, 20_000, days=60), _table(2, 20_000, shift=8.0, days=20), time="at", joint=False)
    assert found.verdict == "drift"
    assert "at" not in {column.name for column in found.columns}


def test_what_is_not_compared_is_told() -> None:
    rows = 3000
    then = pa.table({"x": np.arange(rows), "id": [f"row {k}" for k in range(rows)], "gone": np.arange(rows)})
    found = compare(then, then.drop_columns(["gone"]).append_column("new", pa.array(np.arange(rows))), joint=False)
    assert [text.split(":")[0] for text in found.left_out] == ["id", "gone", "new"]


def test_new_and_missing_values_are_found() -> None:
    then = pa.table({"kind": ["air", "road"] * 2000})
    new = compare(then, pa.table({"kind": ["air", "road", "road", "rail"] * 1000}), joint=False)
    lost = compare(then, pa.table({"kind": ["air", "road", "road", None] * 1000}), joint=False)
    assert new.columns[0].aspect == "unseen"
    assert lost.columns[0].aspect == "missing"
    assert new.verdict == lost.verdict == "drift"


@pytest.mark.parametrize("name", ["target", "prediction", "time"])
def test_an_unknown_column_is_named(name: str) -> None:
    with pytest.raises(UnknownNameError, match="lat"):
        compare(_table(1), _table(2), **{name: "lat"})


def test_empty_tables_other_types_and_nothing_to_compare_are_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        compare(_table(1), _table(2).slice(0, 0))
    with pytest.raises(ColumnContractError, match="km"):
        compare(_table(1), _table(2).set_column(0, "km", pa.array(["x"] * 8000)))
    with pytest.raises(DataError, match="no column"):
        compare(pa.table({"t": pa.array([1, 2], pa.timestamp("s"))}), pa.table({"t": pa.array([1], pa.timestamp("s"))}))


def test_a_column_without_weight_is_told_but_is_no_drift() -> None:
    rng = np.random.default_rng(9)
    a, b, c = rng.standard_normal((3, 6000))
    then = pa.table({"used": a[:4000], "idle": b[:4000]})
    found = compare(then, pa.table({"used": a[4000:], "idle": c[4000:] + 1}).slice(0, 2000), weights={"used": 1.0})
    assert {column.name: (column.answer, column.weight) for column in found.columns}["idle"] == ("drift", 0.0)
    assert found.verdict != "drift"
    assert found.joint != "drift"
