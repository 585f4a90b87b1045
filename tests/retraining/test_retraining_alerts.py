"""Alerts of Azure Monitor and of the generic form become one kind of thing; what is not taken is refused kindly."""

from __future__ import annotations

import copy
import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stk_ml.errors import RequestError
from stk_ml.retraining.alerts import KINDS, Alert, parse
from stk_ml.retraining.inbox import event

NOW = 1_795_500_000.0
ESSENTIALS = {
    "alertId": "/subscriptions/0000/providers/Microsoft.AlertsManagement/alerts/3d1f6a5e-0000-4000-8000-000000000001",
    "alertRule": "drift found",
    "severity": "Sev2",
    "signalType": "Log",
    "monitorCondition": "Fired",
    "monitoringService": "Log Alerts V2",
    "alertTargetIDs": ["/subscriptions/0000/resourcegroups/ml/providers/microsoft.insights/components/stk"],
    "configurationItems": ["stk"],
    "originAlertId": "1-2-3",
    "firedDateTime": "2026-11-24T06:31:09.3713213Z",
    "description": "A monitor's verdict says drift",
    "essentialsVersion": "1.0",
    "alertContextVersion": "1.0",
}


def azure(*, context: Any = None, custom: Any = None, **essentials: Any) -> dict[str, Any]:
    return {
        "schemaId": "azureMonitorCommonAlertSchema",
        "data": {"essentials": ESSENTIALS | essentials, "alertContext": context, "customProperties": custom},
    }


def by_dimensions(*pairs: tuple[str, str]) -> dict[str, Any]:
    """The context of a log alert (LogQueryCriteria) that is split by dimensions."""
    return {
        "properties": None,
        "conditionType": "LogQueryCriteria",
        "condition": {
            "windowSize": "PT1H",
            "allOf": [
                {
                    "searchQuery": "AppEvents | where Name == 'stk.verdict'",
                    "metricMeasureColumn": None,
                    "operator": "GreaterThan",
                    "threshold": "0",
                    "timeAggregation": "Count",
                    "dimensions": [{"name": name, "value": value} for name, value in pairs],
                    "metricValue": 1.0,
                    "failingPeriods": {"numberOfEvaluationPeriods": 1, "minFailingPeriodsToAlert": 1},
                }
            ],
        },
    }


CUSTOM = {"model": "flight-delay", "kind": "drift"}


def read(document: Any, now: float = NOW) -> Alert:
    return parse(json.dumps(document).encode(), now=now)


def refused(document: Any, status: int = 422) -> RequestError:
    with pytest.raises(RequestError) as caught:
        read(document)
    assert caught.value.status == status
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize(
    "document",
    [
        azure(custom=CUSTOM),
        azure(custom={"Model": "flight-delay", "KIND": "drift"}),
        azure(context={"properties": CUSTOM, "condition": None}),
        azure(context=by_dimensions(("model", "flight-delay"), ("kind", "drift"))),
        azure(context={"Dimensions": [{"name": "model", "value": "flight-delay"}, {"name": "kind", "value": "drift"}]}),
        azure(alertRule="stk-ml.drift.flight-delay"),
        azure(alertRule="/subscriptions/0/providers/microsoft.insights/rules/stk-ml.drift.flight-delay"),
        azure(alertRule="stk-ml.quality.other", custom=CUSTOM),
        azure(context=by_dimensions(("model", "flight-delay")), custom={"kind": "drift"}),
        {"model": "flight-delay", "kind": "Drift", "time": "2026-11-24T06:31:09Z"},
        {"model": "flight-delay", "kind": "drift", "time": "2026-11-24T01:31:09-05:00", "id": 7},
    ],
)
def test_the_model_and_the_kind_are_found_where_they_are_said_to_be(document: Any) -> None:
    alert = read(document)
    assert (alert.model, alert.kind, alert.fired, alert.time) == (
        "flight-delay",
        "drift",
        True,
        "2026-11-24T06:31:09Z",
    )


def test_an_alert_sent_again_has_the_same_key_and_its_resolution_too() -> None:
    fired = read(azure(custom=CUSTOM))
    later = read(azure(custom=CUSTOM), now=NOW + 5)
    resolved = read(azure(custom=CUSTOM, monitorCondition="Resolved", resolvedDateTime="2026-11-24T07:00:00Z"))
    assert fired == later
    assert resolved.key == fired.key
    assert resolved.reply_key != fired.reply_key
    assert (resolved.fired, resolved.time) == (False, "2026-11-24T07:00:00Z")


def test_other_alerts_have_other_keys() -> None:
    alerts = [
        azure(custom=CUSTOM),
        azure(custom=CUSTOM, alertId="another"),
        azure(custom=CUSTOM, firedDateTime="2026-11-25T06:31:09Z"),
        {"model": "flight-delay", "kind": "drift", "id": "7"},
        {"model": "flight-delay", "kind": "drift", "id": "8"},
        {"model": "flight-delay", "kind": "quality", "id": "7"},
        {"model": "other", "kind": "drift", "id": "7"},
        {"model": "flight-delay", "kind": "drift"},
        {"model": "flight-delay", "kind": "drift", "detail": "weight"},
        {"model": "flight-delay", "kind": "drift", "time": "2026-11-24T06:00:00Z"},
    ]
    assert len({read(alert).key for alert in alerts}) == len(alerts)


def test_without_id_and_time_an_alert_is_the_same_for_a_day() -> None:
    plain = {"model": "eta", "kind": "drift"}
    midnight = NOW - NOW % 86_400
    keys = [read(plain, now=midnight + seconds).key for seconds in (0, 86_399, 86_400)]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"schemaId": "AzureMonitorMetricAlert"}, "AzureMonitorMetricAlert"),
        ({"schemaId": None}, "None"),
        ({"data": {}}, "essentials"),
        ({"data": None}, "null"),
    ],
)
def test_another_schema_is_refused_with_what_is_taken(change: dict[str, Any], named: str) -> None:
    error = refused(azure(custom=CUSTOM) | change)
    assert named in str(error)
    assert "azureMonitorCommonAlertSchema" in error.hint


@pytest.mark.parametrize(
    ("essentials", "named"),
    [
        ({"essentialsVersion": "2.0"}, "essentialsVersion '2.0'"),
        ({"alertContextVersion": "3.1"}, "alertContextVersion '3.1'"),
        ({"monitorCondition": "Acknowledged"}, "Acknowledged"),
        ({"firedDateTime": "yesterday"}, "yesterday"),
        ({"alertId": 7}, "alertId"),
        ({"firedDateTime": None}, "firedDateTime"),
    ],
)
def test_what_differs_from_version_one_is_named(essentials: dict[str, Any], named: str) -> None:
    assert named in str(refused(azure(custom=CUSTOM, **essentials)))


@pytest.mark.parametrize("name", ["resolvedDateTime", "severity", "description", "essentialsVersion"])
def test_what_may_be_absent_may_be_null(name: str) -> None:
    assert read(azure(custom=CUSTOM, **{name: None})).model == "flight-delay"


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00", "0001-01-01T00:00:00+02:00", "0999-12-31T00:00:00Z"])
def test_a_time_before_all_clocks_is_that_of_its_coming(time: str) -> None:
    now = "2026-11-24T06:00:00Z"
    seconds = datetime.fromisoformat(now).timestamp()
    assert read(azure(custom=CUSTOM, firedDateTime=time), now=seconds).time == now
    assert read({"model": "eta", "kind": "quality", "time": time}, now=seconds).time == now


def test_one_alert_about_two_models_has_a_key_for_each() -> None:
    keys = {read(azure(custom={"model": model, "kind": "drift"})).key for model in ("a", "b")}
    assert len(keys) == 2


def test_versions_one_point_something_are_taken() -> None:
    assert read(azure(custom=CUSTOM, essentialsVersion="1.1", alertContextVersion="1.1")).model == "flight-delay"


@pytest.mark.parametrize(
    "document",
    [
        azure(),
        azure(custom={"model": "flight-delay"}),
        azure(alertRule="stk-ml.whatever.flight-delay"),
        azure(custom={"model": "Flight Delay", "kind": "drift"}),
        azure(custom={"model": "../secrets", "kind": "drift"}),
        azure(custom={"model": "flight-delay", "kind": "boredom"}),
        {"model": "flight-delay"},
        {"model": 3, "kind": "drift"},
        {"model": "flight-delay", "kind": "drift", "tiem": "2026-11-24"},
        {"model": "a" * 200, "kind": "drift"},
        {"model": "flight-delay", "kind": "drift", "time": "soon"},
    ],
)
def test_an_alert_that_says_too_little_or_nonsense_is_refused(document: Any) -> None:
    refused(document)


def test_an_alert_about_two_models_is_refused() -> None:
    context = by_dimensions(("model", "a"), ("kind", "drift"))
    second = copy.deepcopy(context["condition"]["allOf"][0])
    second["dimensions"][0]["value"] = "b"
    context["condition"]["allOf"].append(second)
    assert "'a', 'b'" in str(refused(azure(context=context)))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"3", b'"x"', b"\xff", b"[" * 100_000, b"{" + b'"a":{' * 50_000])
def test_a_body_that_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(RequestError) as caught:
        parse(body, now=NOW)
    assert caught.value.status == 400


def test_what_people_read_is_one_short_line() -> None:
    alert = read({"model": "eta", "kind": "drift", "detail": "a\r\nINFO forged\x1b[31m line " + "x" * 1000})
    assert alert.detail.isprintable()
    assert len(alert.detail) <= 500


@pytest.mark.parametrize(
    ("kind", "fired", "expected"),
    [
        ("drift", True, "fired"),
        ("performance", True, "fired"),
        ("quality", True, "broken"),
        ("request", True, "manual"),
        *((kind, False, "resolved") for kind in KINDS),
    ],
)
def test_the_governor_is_told_in_its_own_words(kind: str, fired: bool, expected: str) -> None:
    told = event(Alert("k", "eta", kind, fired, "2026-11-24T06:00:00Z"))
    assert (told.kind, told.key, bool(told.reason) or not fired) == (expected, "k", True)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)


@given(context=_JSON, custom=_JSON, essentials=st.dictionaries(st.sampled_from(sorted(ESSENTIALS)), _JSON, max_size=3))
def test_any_json_is_an_alert_or_refused(context: Any, custom: Any, essentials: dict[str, Any]) -> None:
    for document in (azure(context=context, custom=custom, **essentials), context, {"model": custom, "kind": "drift"}):
        try:
            alert = read(document)
        except RequestError as error:
            assert error.status in (400, 422)  # noqa: PT017
            assert len(str(error)) < 400  # noqa: PT017
        else:
            assert alert.kind in KINDS
            assert len(alert.key) == 32
