"""Planted leaks: each must fail the pull and name the column."""

from __future__ import annotations

import pytest
from small_world import DEPARTURES

from stk_ml.errors import LeakageError
from stk_ml.model_spec import FeatureUse

LEAK = "arr_delay > 15 AS late"
LYING = """\
SELECT flight_id, scheduled AS event_time, scheduled - INTERVAL 30 DAY AS known_time, temp
FROM raw.flights JOIN raw.weather ON time_hour = date_trunc('hour', scheduled)
"""
HONEST = """\
SELECT flight_id, scheduled AS event_time, scheduled - INTERVAL 2 HOUR AS known_time, temp
FROM raw.flights JOIN raw.weather ON time_hour = date_trunc('hour', scheduled - INTERVAL 3 HOUR)
"""


def plant(project, column: str) -> None:  # type: ignore[no-untyped-def]
    project.view("departures", DEPARTURES.replace(LEAK, f"{LEAK}, {column}"), "flight_id")


def test_honest_features_pass_and_every_one_was_replayed(project):
    dataset = project.pull()
    assert {f.column for f in dataset.audit if f.rule == "replay"} == {"carrier", "hour", "rate"}
    assert all(f.rows == 0 and f.checked > 0 for f in dataset.audit)


@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("dep_delay", "dep_delay"),
        ("left_early", "departed < scheduled AS left_early"),
        ("has_left", "departed - scheduled < INTERVAL 5 MINUTE AS has_left"),
        ("rounded", "round(arr_delay / 60) AS rounded"),
        ("mean_delay", "avg(arr_delay) OVER (PARTITION BY carrier) AS mean_delay"),
    ],
)
def test_a_column_known_later_in_the_spine_is_refused_by_name(project, name, sql):
    plant(project, sql)
    with pytest.raises(LeakageError, match=rf"column '{name}' \(replay\)"):
        project.pull()
    assert not (project.root / "out").exists()


def test_the_weather_of_the_hour_is_refused_whatever_the_header_claims(project):
    project.view("there", LYING, "flight_id")
    with pytest.raises(LeakageError, match=r"column 'temp' \(replay\)"):
        project.pull(project.spec(features=(FeatureUse("there"),)))


def test_the_weather_known_by_then_passes(project):
    project.view("there", HONEST, "flight_id")
    assert "temp" in project.pull(project.spec(features=(FeatureUse("there"),))).role("feature")


def test_a_leak_through_another_view_is_found(project):
    project.view("base", LYING, "flight_id")
    project.view("there", "SELECT flight_id, event_time, known_time, temp * 2 AS warm FROM curated.base", "flight_id")
    with pytest.raises(LeakageError, match=r"column 'warm' \(replay\)"):
        project.pull(project.spec(features=(FeatureUse("there"),)))


def test_a_label_copied_under_another_name_is_refused(project):
    plant(project, "CASE WHEN arr_delay > 15 THEN 'yes' ELSE 'no' END AS verdict, arr_delay > 15 AS same")
    with pytest.raises(LeakageError) as error:
        project.pull()
    assert "column 'same' (copy): equals the target 'late' on all 2,000 rows" in str(error.value)
    assert "column 'verdict' (suspicion)" in str(error.value)


def test_a_spine_that_says_its_features_are_known_after_as_of_is_refused(project):
    sql = DEPARTURES.replace("scheduled - INTERVAL 30 DAY AS known_time", "scheduled AS known_time")
    project.view("departures", sql, "flight_id")
    with pytest.raises(LeakageError, match=r"known_time is after as_of .* in 2,000 of 2,000 rows"):
        project.pull()


def test_labels_before_as_of_are_refused(project):
    project.view(
        "departures",
        DEPARTURES.replace("landed AS label_time", "scheduled - INTERVAL 3 HOUR AS label_time"),
        "flight_id",
    )
    with pytest.raises(LeakageError, match=r"'label_time': the label of 2,000 of 2,000 rows was known before as_of"):
        project.pull()


def test_the_target_among_the_features_of_a_view_is_refused(project):
    project.view(
        "history",
        "SELECT carrier, landed AS event_time, landed AS known_time, arr_delay > 15 AS late FROM raw.flights",
        "carrier",
    )
    with pytest.raises(LeakageError, match="the target 'late' is among the features of view 'history'"):
        project.pull(project.spec(features=(FeatureUse("history"),)))
    dataset = project.pull(project.spec(features=(FeatureUse("history", prefix="last_"),)))
    assert "last_late" in dataset.role("feature")


def test_a_raw_table_without_declaration_is_told_as_cannot_tell(project):
    (project.views / "sources.yml").write_text("raw.weather: {known: time_hour}\n", "utf-8")
    (finding,) = [f for f in project.pull().audit if f.rule == "replay"]
    assert (finding.column, finding.rows) == ("raw.flights", -1)
    assert "sources.yml" in finding.detail


def test_a_label_that_no_declaration_calls_late_is_told(project):
    (project.views / "sources.yml").write_text('raw.flights: {known: "scheduled - INTERVAL 30 DAY"}\n', "utf-8")
    told = [f for f in project.pull().audit if f.rule == "replay" and f.rows < 0]
    assert [f.column for f in told] == ["late"]


def test_audit_shows_everything_without_raising(project):
    plant(project, "dep_delay, arr_delay > 15 AS same")
    engine, spec = project.engine, project.spec()
    raw = engine.snapshot(spec)
    curated = engine.build(["departures", "rates"], raw)
    broken = {(f.rule, f.column) for f in engine.audit(spec, curated, raw) if f.rows > 0}
    assert {("replay", "dep_delay"), ("replay", "same"), ("copy", "same"), ("suspicion", "same")} <= broken
    # Without the raw snapshot, the curated tables say what they were made from.
    assert {(f.rule, f.column) for f in engine.audit(spec, curated) if f.rows > 0} == broken


def test_the_audit_can_be_left_out(project):
    plant(project, "dep_delay")
    assert "dep_delay" in project.pull(audit=False).role("feature")
