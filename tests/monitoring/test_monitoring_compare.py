"""Two tables: verdicts, what is left out, performance, and mistakes."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from stk_ml.errors import DataError, UnknownNameError, UsageError
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
    assert [text.split(":")[0] for text in found.left_out] == ["id", "new"]
    gone = found.columns[-1]
    assert (gone.name, gone.answer, gone.aspect, gone.effect.value) == ("gone", "drift", "missing", 1.0)
    assert found.verdict == "drift"


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


def test_empty_tables_and_nothing_to_compare_are_refused() -> None:
    with pytest.raises(DataError, match="no rows"):
        compare(_table(1), _table(2).slice(0, 0))
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


def _answer(then: object, now: object) -> tuple[str, str]:
    """Of a column among two others that never move."""
    rng, rows = np.random.default_rng(3), 3000
    others = {"b": pa.array(np.arange(rows) % 5), "c": pa.array(rng.normal(size=rows))}
    found = compare(*(pa.table({"a": column, **others}) for column in (then, now)), joint=False)
    [a, b, c] = found.columns
    assert (a.name, b.answer, c.answer) == ("a", "stable", "stable")
    assert found.verdict == ("drift" if a.answer == "drift" else found.verdict)
    return a.answer, a.aspect if a.answer == "drift" else ""


INTS, NONE = pa.array(np.arange(3000) % 2), [None] * 3000
WORDS = pa.array(["air", "road"] * 1500)
MISSING = ("drift", "missing")


@pytest.mark.parametrize("values", [INTS, INTS.cast(pa.float64()), INTS.cast(pa.bool_()), WORDS])
@pytest.mark.parametrize("kind", [pa.null(), pa.string(), pa.float64()])
def test_an_empty_column_is_drift_by_missing_values_both_ways(values: pa.Array, kind: pa.DataType) -> None:
    assert _answer(values, pa.array(NONE, kind)) == MISSING
    assert _answer(pa.array(NONE, kind), values) == MISSING


def test_integers_floats_and_booleans_are_all_numbers() -> None:
    kinds = (pa.int32(), pa.float32(), pa.bool_())
    assert {_answer(INTS.cast(a), INTS.cast(b)) for a in kinds for b in kinds} == {("stable", "")}
    assert _answer(INTS.cast(pa.bool_()), pa.array(np.arange(3000) % 2 + 0.5))[0] == "drift"


def test_text_among_numbers_is_missing_values() -> None:
    some = pa.array([str(k % 2) if k % 25 else "N/A" for k in range(3000)])
    assert _answer(INTS, some) == _answer(some, INTS) == MISSING
    assert _answer(INTS, pa.array([f"{k % 2},5" for k in range(3000)])) == MISSING
    assert _answer(INTS, INTS.cast(pa.string())) == ("stable", "")
    assert _answer(INTS.cast(pa.bool_()), pa.array(["false", "true"] * 1500)) == ("stable", "")


def test_another_type_is_drift_and_a_type_that_cannot_be_counted_is_left_out() -> None:
    times = pa.array(np.arange(3000), pa.timestamp("s"))
    assert _answer(INTS, times) == _answer(WORDS, times) == MISSING
    assert _answer(WORDS, INTS)[0] == "drift"
    found = compare(pa.table({"a": times, "b": INTS}), pa.table({"a": INTS, "b": INTS}), joint=False)
    assert (found.left_out[0].split(":")[0], [column.name for column in found.columns]) == ("a", ["b"])


def test_a_worse_model_is_drift_although_no_column_moved() -> None:
    then, now = _table(1, days=30), _table(2, days=1)
    wrong = now.set_column(now.column_names.index("late"), "late", pa.array(1 - now.column("late").to_numpy()))
    for time in ("", "at"):
        found = compare(then, wrong, target="late", prediction="score", time=time, joint=False)
        assert found.verdict == "drift"
        assert all(finding.worse for finding in found.performance)
        assert "drift" not in {column.answer for column in found.columns}


def test_a_model_that_is_as_good_as_before_is_seldom_called_worse() -> None:
    alarms = 0
    for seed in range(60):
        then, now = _table(2 * seed, 1500), _table(2 * seed + 1, 800)
        only = [table.select(["score", "late"]) for table in (then, now)]
        found = compare(*only, target="late", prediction="score", joint=False, alpha=0.2)
        alarms += any(finding.worse for finding in found.performance)
    assert alarms <= 6


def test_parts_share_alpha() -> None:
    then, now = _table(1, 2000), _table(2, 2000)
    names = {"target": "late", "prediction": "score"}
    levels = [
        compare(then, now, joint=joint, alpha=0.06, **names).performance[0].value.level for joint in (False, True)
    ]
    assert levels == pytest.approx([1 - 0.03 / 3, 1 - 0.02 / 3])


@pytest.mark.parametrize("rows", [1, 5, 20, 29])
def test_a_tiny_reference_tells_nothing(rows: int) -> None:
    for seed in range(5):
        found = compare(_table(seed, rows), _table(seed + 50, 5000))
        assert found.verdict == "insufficient"
        assert {column.answer for column in found.columns} == {"insufficient"}


AT = np.datetime64("2024-01-01", "us") + (np.arange(8000) * 324).astype("timedelta64[s]")


@pytest.mark.parametrize(
    "form",
    [
        *(lambda at, unit=unit: at.astype(f"datetime64[{unit}]").astype(np.int64) for unit in ("s", "ms", "us", "ns")),
        lambda at: at.astype("datetime64[ms]").astype(float) / 1000,
        lambda at: [f"{time}Z" for time in at],
        lambda at: [f"{time}+00:00" if place % 2 else f"{time}" for place, time in enumerate(at)],
        lambda at: pa.array(at).cast(pa.timestamp("us", "America/New_York")),
    ],
)
def test_times_come_in_many_forms(form: object) -> None:
    given = form(AT)  # type: ignore[operator]
    plain, other = (_table(1).append_column("at", pa.array(at)) for at in (AT, given))
    then, now = (compare(table, _table(2, days=8), time="at", joint=False).columns for table in (plain, other))
    assert then == now


@pytest.mark.parametrize("form", [lambda day: day.replace("-", ""), lambda day: int(day.replace("-", ""))])
def test_days_without_dashes_are_days(form: object) -> None:
    plain, other = (
        _table(1).append_column("at", pa.array([make(f"{time}"[:10]) for time in AT])) for make in (str, form)
    )
    then, now = (compare(table, _table(2, days=8), time="at", joint=False).columns for table in (plain, other))
    assert then == now


@pytest.mark.parametrize("values", [np.arange(8000), ["soon"] * 8000, np.ones(8000, bool), [None] * 8000])
def test_what_is_no_time_is_refused(values: object) -> None:
    with pytest.raises(DataError, match="'at'"):
        compare(_table(1).append_column("at", pa.array(values)), _table(2, days=8), time="at")


def test_rows_without_a_time_are_left_out_and_said() -> None:
    then, now = _table(1, days=30), _table(2, days=8)
    holes = then.set_column(then.column_names.index("at"), "at", pa.array([None] * 50 + then["at"].to_pylist()[50:]))
    found, without = (compare(table, now, time="at", joint=False) for table in (holes, then.slice(50)))
    assert (found.reference_rows, found.columns) == (7950, without.columns)
    assert found.notes == ("at: 50 of 8,000 rows of the reference have no time and are left out",)


def _with(table: pa.Table, **columns: object) -> pa.Table:
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, pa.array(values))
    return table


@pytest.mark.parametrize("classes", [("no", "yes"), (1, 2), (-1.0, 1.0), (False, True), ("0", "1")])
def test_two_classes_of_any_name_give_the_performance(classes: tuple[object, object]) -> None:
    plain = [_table(seed) for seed in (1, 2)]
    named = [_with(table, late=[classes[label] for label in table["late"].to_pylist()]) for table in plain]
    first, second = (compare(*tables, target="late", prediction="score", joint=False) for tables in (plain, named))
    assert first.performance == second.performance
    said = f"late: {classes[1]!r}".replace(".0", "")
    assert second.notes == () if isinstance(classes[0], bool) else second.notes[0].startswith(said)


def test_a_target_without_prediction_is_a_column() -> None:
    now = _table(2)
    found = compare(_table(1), _with(now, late=np.ones(8000, int)), target="late", joint=False)
    assert {column.name: column.answer for column in found.columns}["late"] == "drift"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": np.linspace(0, 100, 8000)}, "from 0 to 100 in the current table"),
        ({"late": np.arange(8000) % 3}, "holds 2 in the current table"),
        ({"late": ["a", "b", "c", "d"] * 2000}, "text of"),
    ],
)
def test_outcomes_and_scores_that_do_not_belong_together_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        compare(_table(1), _with(_table(2), **change), target="late", prediction="score")
    assert caught.value.hint


def test_names_that_stand_twice_are_refused() -> None:
    twice = pa.Table.from_arrays([INTS, INTS, INTS], ["a", "b", "a"])
    with pytest.raises(UsageError, match="'a' is there 2 times"):
        compare(pa.table({"a": INTS}), twice)
    with pytest.raises(UsageError, match="as target and as prediction"):
        compare(_table(1), _table(2), target="late", prediction="late")


def test_the_prediction_keeps_its_name() -> None:
    then, now = (_table(seed).rename_columns(["km", "kind", "express", "stops", "pred", "late"]) for seed in (1, 2))
    found = compare(then, now, target="late", prediction="pred", joint=False)
    assert (found.columns[-1].name, found.columns[-1].kind, found.shapes[-1].name) == ("pred", "score", "pred")


def test_numbers_near_the_largest_there_are_are_compared() -> None:
    rng = np.random.default_rng(0)
    then, same, wide = (rng.uniform(-1, 1, 5000) * size for size in (1e308, 1e308, 2e307))
    fine, moved = (compare(pa.table({"h": then}), pa.table({"h": h}), joint=False).columns[0] for h in (same, wide))
    assert (fine.answer, moved.answer) == ("stable", "drift")
    assert np.isfinite([moved.effect.value, moved.effect.low, moved.effect.high, moved.detectable]).all()
