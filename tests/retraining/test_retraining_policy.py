"""The governor: properties over any story, and each rule on a story of its own."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from stk_ml import contracts
from stk_ml.contracts import Interval
from stk_ml.model_policies import RetrainSpec
from stk_ml.model_spec import duration, instant
from stk_ml.monitor_state import MonitorVerdict, PerformanceFinding, QualityFinding
from stk_ml.retraining import policy
from stk_ml.retraining.policy import Alert, Decision, GovernorState, iso

MAY = datetime(2024, 5, 1, tzinfo=UTC)
DAY = timedelta(days=1)
SPEC = RetrainSpec()


def verdict(end: datetime, says: str, digest: str = "a" * 64) -> MonitorVerdict:
    broken = (QualityFinding("unit", "weight", "1,000 times what it was"),) if says == "broken" else ()
    answer: Any = {"alarm": "drift", "calm": "stable", "broken": "drift"}.get(says, "insufficient")
    return MonitorVerdict("m", 1, digest, "m", "v1", iso(end - DAY), iso(end), 500, answer, quality=broken)


def looked(state: GovernorState, says: str, first: datetime = MAY) -> GovernorState:
    """One look a day: ``A`` alarm, ``c`` calm, ``u`` unclear, ``b`` broken."""
    words = {"A": "alarm", "c": "calm", "u": "unclear", "b": "broken"}
    for day, letter in enumerate(says):
        end = first + day * DAY
        state = policy.observe(state, verdict(end, words[letter]), end)
    return state


def retrained(state: GovernorState, now: datetime, outcome: Any, spec: RetrainSpec = SPEC) -> GovernorState:
    decision = policy.decide(state, spec, now)
    assert decision.action == "start", decision
    return policy.ended(policy.started(state, decision, now), decision.key, outcome, "told", now)


@pytest.mark.parametrize(
    ("story", "action"),
    [
        ("", "rest"),
        ("AA", "rest"),
        ("AAA", "start"),
        ("AcAcA", "start"),
        ("AAAc", "rest"),
        ("AAAu", "rest"),
        ("AccAccA", "rest"),
        ("AAAb", "blocked"),
        ("b", "blocked"),
        ("bAAA", "start"),
    ],
)
def test_k_of_the_last_n_windows_and_the_newest_ask_for_a_retrain(story: str, action: str) -> None:
    assert policy.decide(looked(GovernorState("m"), story), SPEC, MAY + 9 * DAY).action == action


def test_an_alarm_goes_on_while_the_monitor_is_disarmed() -> None:
    looks = [replace(verdict(MAY + day * DAY, "alarm"), alarm=day == 0, armed=day == 0) for day in range(3)]
    state = GovernorState("m")
    for look in looks:
        state = policy.observe(state, look, MAY + 3 * DAY)
    assert policy.decide(state, SPEC, MAY + 3 * DAY).action == "start"


@pytest.mark.parametrize(("muted", "action"), [("", "start"), ("it was wrong in May", "rest")])
def test_a_performance_shown_to_be_worse_alarms_unless_it_is_muted(muted: str, action: str) -> None:
    found = PerformanceFinding("auc", "estimated", Interval(0.6, 0.58, 0.62), 0.7, True, 900, 0.0, muted)
    look = replace(verdict(MAY, "calm"), performance=(found,))
    state = policy.observe(GovernorState("m"), look, MAY)
    assert policy.decide(state, RetrainSpec(windows=1, of=1), MAY).action == action


def test_a_start_uses_up_the_windows_that_asked_for_it() -> None:
    state = retrained(looked(GovernorState("m"), "AAA"), MAY + 2 * DAY, "refused")
    state = looked(state, "AAA")  # the same verdicts come again
    assert policy.decide(state, SPEC, MAY + 20 * DAY).action == "rest"


def test_a_useless_retrain_is_tried_again_when_it_has_cooled_down_and_new_windows_alarm() -> None:
    state = retrained(looked(GovernorState("m"), "AAA"), MAY + 2 * DAY, "refused")
    state = looked(state, "AAA", MAY + 3 * DAY)
    waits = policy.decide(state, SPEC, MAY + 6 * DAY)
    assert (waits.action, waits.until) == ("wait", iso(MAY + 9 * DAY))
    assert policy.decide(state, SPEC, MAY + 9 * DAY).action == "start"


def test_after_a_promotion_the_same_model_asks_again_only_once_its_drift_was_gone() -> None:
    state = retrained(looked(GovernorState("m"), "AAA"), MAY + 2 * DAY, "promoted")
    later = MAY + 40 * DAY
    assert policy.decide(looked(state, "AAAAA", MAY + 3 * DAY), SPEC, later).action == "rest"
    assert policy.decide(looked(state, "AAcAAA", MAY + 3 * DAY), SPEC, later).action == "start"


def test_windows_of_another_model_do_not_count() -> None:
    state = looked(GovernorState("m"), "AA")
    state = policy.observe(state, verdict(MAY + 2 * DAY, "alarm", digest="b" * 64), MAY + 2 * DAY)
    assert policy.decide(state, SPEC, MAY + 2 * DAY).action == "rest"


def test_the_new_model_may_ask_at_once_after_a_promotion() -> None:
    state = retrained(looked(GovernorState("m"), "AAA"), MAY + 2 * DAY, "promoted")
    for day in range(3, 6):
        state = policy.observe(state, verdict(MAY + day * DAY, "alarm", digest="b" * 64), MAY + day * DAY)
    assert policy.decide(state, SPEC, MAY + 9 * DAY).action == "start"


def test_a_calendar_month_has_a_budget() -> None:
    spec, state = RetrainSpec(cooldown="0d", per_month=2), GovernorState("m")
    for day in (0, 1):
        state = policy.observe(state, Alert(f"a{day}", "fired", iso(MAY + day * DAY)), MAY + day * DAY)
        state = retrained(state, MAY + day * DAY, "promoted", spec)
    state = policy.observe(state, Alert("a2", "fired", iso(MAY + 2 * DAY)), MAY + 2 * DAY)
    waits = policy.decide(state, spec, MAY + 2 * DAY)
    assert (waits.action, waits.until) == ("wait", "2024-06-01T00:00:00Z")
    assert policy.decide(state, spec, instant(waits.until)).action == "start"


def test_useless_retrains_open_the_breaker_and_after_its_pause_one_is_tried() -> None:
    spec, state, now = RetrainSpec(cooldown="0d", per_month=9), GovernorState("m"), MAY
    for key in ("a", "b"):
        state = retrained(policy.observe(state, Alert(key, "fired", iso(now)), now), now, "rolled_back", spec)
        now += DAY
    state = policy.observe(state, Alert("c", "fired", iso(now)), now)
    blocked = policy.decide(state, spec, now)
    assert (blocked.action, blocked.notify, policy.status(state, spec, now)) == ("blocked", True, "open")
    now = instant(blocked.until)
    state = retrained(state, now, "failed", spec)
    assert policy.decide(policy.observe(state, Alert("d", "fired", iso(now + DAY)), now + DAY), spec, now + DAY).notify
    now += 31 * DAY
    state = retrained(policy.observe(state, Alert("e", "fired", iso(now)), now), now, "promoted", spec)
    state = policy.observe(state, Alert("f", "fired", iso(now + DAY)), now + DAY)
    assert policy.decide(state, spec, now + DAY).action == "start"


def test_a_person_waits_for_the_budget_but_not_for_the_cooldown_and_the_breaker() -> None:
    spec, state = RetrainSpec(per_month=3), GovernorState("m")
    for hour in range(3):
        now = MAY + timedelta(hours=hour)
        state = retrained(policy.observe(state, Alert(f"p{hour}", "manual", iso(now)), now), now, "failed", spec)
    now = MAY + DAY
    state = policy.observe(state, Alert("p9", "manual", iso(now), "tariff"), now)
    assert policy.decide(state, spec, now).until == "2024-06-01T00:00:00Z"


@pytest.mark.parametrize("pair", [("fired", "resolved"), ("resolved", "fired")])
def test_a_resolved_alert_asks_for_nothing_in_whatever_order_it_comes(pair: tuple[Any, Any]) -> None:
    state = GovernorState("m")
    for kind in pair:
        state = policy.observe(state, Alert("a", kind, iso(MAY)), MAY)
    assert policy.decide(state, SPEC, MAY).action == "rest"


def test_an_alert_that_fired_before_the_start_is_answered_by_it() -> None:
    state = retrained(policy.observe(GovernorState("m"), Alert("a", "fired", iso(MAY)), MAY), MAY, "refused")
    state = policy.observe(state, Alert("b", "fired", iso(MAY - DAY)), MAY + 9 * DAY)
    assert policy.decide(state, SPEC, MAY + 9 * DAY).action == "rest"


def test_thousands_of_alerts_sent_twice_are_one_retrain() -> None:
    storm = [Alert(f"a{number}", "fired", iso(MAY)) for number in range(2000)]
    state = GovernorState("m")
    for alert in storm:
        state = policy.observe(state, alert, MAY)
    state = retrained(state, MAY, "refused")
    for alert in storm:
        state = policy.observe(state, alert, MAY + 20 * DAY)
    assert policy.decide(state, SPEC, MAY + 20 * DAY).action == "rest"
    assert len(contracts.encode(state)) < 60_000


@pytest.mark.parametrize("mends", ["resolved", "window"])
def test_an_alert_on_broken_data_blocks_until_it_is_resolved_or_a_sound_window_ended_later(mends: str) -> None:
    state = looked(GovernorState("m"), "AAA")
    state = policy.observe(state, Alert("q", "broken", iso(MAY + 3 * DAY), "weight in grams"), MAY + 3 * DAY)
    blocked = policy.decide(state, SPEC, MAY + 3 * DAY)
    assert (blocked.action, blocked.notify) == ("blocked", True)
    assert "weight in grams" in blocked.reason
    if mends == "resolved":
        state = policy.observe(state, Alert("q", "resolved", iso(MAY + 4 * DAY)), MAY + 4 * DAY)
    else:
        state = looked(state, "A", MAY + 4 * DAY)
    assert policy.decide(state, SPEC, MAY + 4 * DAY).action == "start"


def test_a_run_that_is_never_reported_ends_unless_its_process_lives() -> None:
    state = policy.observe(GovernorState("m"), Alert("a", "fired", iso(MAY)), MAY)
    state = policy.started(state, policy.decide(state, SPEC, MAY), MAY)
    late = MAY + policy.TIMEOUT
    assert policy.expired(state, late - timedelta(seconds=1)).running
    assert policy.expired(state, late, alive=True).running
    assert policy.expired(state, late).retrains[-1].outcome == "timeout"


def test_only_a_start_can_be_started_and_only_the_running_one_reported() -> None:
    with pytest.raises(ValueError, match="rest"):
        policy.started(GovernorState("m"), Decision("rest", "calm"), MAY)
    with pytest.raises(ValueError, match="'b' is running"):
        policy.ended(GovernorState("m"), "b", "promoted", "", MAY)


@pytest.mark.parametrize("kind", ["broken", "manual"])
def test_no_number_of_alerts_pushes_out_that_data_is_broken_or_what_a_person_asked_for(kind: Any) -> None:
    state = policy.observe(GovernorState("m"), Alert("first", kind, iso(MAY), "told"), MAY)
    for number in range(600):
        state = policy.observe(state, Alert(f"a{number}", "fired", iso(MAY)), MAY)
    decision = policy.decide(state, SPEC, MAY)
    assert (decision.action, decision.key) == ("blocked" if kind == "broken" else "start", "first")
    assert len(state.alerts) == 257


def test_an_alert_of_the_year_one_is_kept_in_a_form_that_can_be_read_again() -> None:
    state = policy.observe(GovernorState("m"), Alert("b", "broken", "0001-01-01T00:00:00Z", "default date"), MAY)
    assert policy.decide(state, SPEC, MAY).action == "blocked"
    assert policy.decide(looked(state, "c"), SPEC, MAY).action == "rest"


def test_a_clock_that_was_years_ahead_silences_nobody_for_longer_than_a_right_one() -> None:
    ahead = MAY + 2000 * DAY
    state = retrained(policy.observe(GovernorState("m"), Alert("a", "fired", iso(ahead)), ahead), ahead, "failed")
    state = policy.observe(policy.expired(state, MAY), Alert("b", "fired", iso(MAY)), MAY)
    assert policy.decide(state, SPEC, MAY).action == "rest", "it fired before the clock was seen to be set back"
    state = policy.observe(policy.expired(state, MAY + DAY), Alert("c", "fired", iso(MAY + DAY)), MAY + DAY)
    waits = policy.decide(state, SPEC, MAY + DAY)
    assert (waits.action, waits.until) == ("wait", iso(MAY + 7 * DAY))
    assert policy.decide(policy.expired(state, MAY + 7 * DAY), SPEC, MAY + 7 * DAY).action == "start"


def test_data_that_breaks_during_a_run_is_told_to_a_person() -> None:
    state = policy.observe(GovernorState("m"), Alert("a", "fired", iso(MAY)), MAY)
    state = policy.started(state, policy.decide(state, SPEC, MAY), MAY)
    state = policy.observe(state, Alert("q", "broken", iso(MAY), "weight in grams"), MAY)
    waits = policy.decide(state, SPEC, MAY)
    assert (waits.action, waits.notify) == ("wait", True)
    assert "weight in grams" in waits.reason


class Governor(RuleBasedStateMachine):
    """Any story of looks, alerts, reports, kills and passing time, told to the governor as its ledger tells it."""

    spec = RetrainSpec(windows=2, of=3, cooldown="3d", per_month=2, breaker=2, breaker_pause="20d")

    def __init__(self) -> None:
        super().__init__()
        self.now, self.state, self.digest = MAY, GovernorState("m"), 0
        self.starts: list[tuple[datetime, Decision]] = []
        self.alerts: list[Alert] = []
        self.looks: list[MonitorVerdict] = []
        self.known: set[tuple[str, str]] = set()
        self.broken: dict[str, datetime] = {}
        self.passed = timedelta(0)
        self.passed_at: list[timedelta] = []

    def tell(self, *events: policy.Event) -> Decision:
        self.state = policy.expired(self.state, self.now)
        self.broken = {key: min(time, self.now) for key, time in self.broken.items()}
        for event in filter(self.is_new, events):
            self.note(event)
            once = policy.observe(self.state, event, self.now)
            assert policy.observe(once, event, self.now) == once, "the same twice changes nothing"
            self.state = once
        decision = policy.decide(self.state, self.spec, self.now)
        if decision.action == "start":
            assert self.state.running is None
            newest = self.state.windows[-1] if self.state.windows else None
            assert newest is None or newest.says != "broken"
            assert not self.broken
            self.passed_at.append(self.passed)
            self.starts.append((self.now, decision))
            self.state = policy.started(self.state, decision, self.now)
            kept = contracts.encode(self.state)
            assert contracts.msgspec.json.decode(kept, type=GovernorState) == self.state
        return decision

    def is_new(self, event: policy.Event) -> bool:
        """As the ledger tells it: an alert that came, or was resolved, is not told again."""
        if isinstance(event, MonitorVerdict):
            return True
        told = {(event.key, event.kind), (event.key, "resolved")} & self.known
        self.known.add((event.key, event.kind))
        return not told

    def note(self, event: policy.Event) -> None:
        """Which alerts say that the data is broken, by a model of its own."""
        if isinstance(event, MonitorVerdict):
            if not event.broken and event.answer in ("drift", "stable"):
                end = instant(event.window_end)
                self.broken = {key: time for key, time in self.broken.items() if time >= end}
        elif event.kind == "broken":
            self.broken[event.key] = min(instant(event.time), self.now)
        elif event.kind == "resolved":
            self.broken.pop(event.key, None)

    @rule(hours=st.integers(0, 24 * 12))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)
        self.passed += timedelta(hours=hours)
        self.tell()

    @rule(days=st.sampled_from([1, 40, 400]))
    def the_clock_is_set_back(self, days: int) -> None:
        self.now -= days * DAY
        self.tell()

    @rule(kind=st.sampled_from(["fired", "fired", "resolved"]))
    def a_storm(self, kind: Any) -> None:
        first = len(self.alerts)
        storm = [Alert(f"a{first + number}", kind, iso(self.now)) for number in range(260)]
        self.alerts += [replace(alert, kind="fired") for alert in storm]
        self.tell(*storm)

    @rule(says=st.sampled_from(["alarm", "alarm", "calm", "unclear", "broken"]), late=st.integers(0, 4))
    def a_look(self, says: str, late: int) -> None:
        look = verdict(self.now - late * DAY, says, digest=str(self.digest) * 64)
        self.looks.append(look)
        self.tell(look)

    @rule(kind=st.sampled_from(["fired", "fired", "manual", "broken"]), skew=st.integers(-48, 48))
    def an_alert(self, kind: Any, skew: int) -> None:
        alert = Alert(f"a{len(self.alerts)}", kind, iso(self.now + timedelta(hours=skew)), "alert")
        self.alerts.append(alert)
        self.tell(alert)

    @precondition(lambda self: self.alerts)
    @rule(data=st.data(), times=st.integers(1, 3))
    def alerts_come_again(self, data: st.DataObject, times: int) -> None:
        before = len(self.starts)
        known = set(self.state.answered)
        alert = data.draw(st.sampled_from(self.alerts))
        for _ in range(times):
            self.tell(alert)
        if alert.key in known:
            assert all(each.key != alert.key for _, each in self.starts[before:])

    @precondition(lambda self: self.alerts)
    @rule(data=st.data())
    def an_alert_is_resolved(self, data: st.DataObject) -> None:
        alert = data.draw(st.sampled_from(self.alerts))
        self.tell(Alert(alert.key, "resolved", iso(self.now)))

    @precondition(lambda self: self.looks)
    @rule(data=st.data())
    def a_look_comes_again(self, data: st.DataObject) -> None:
        look = data.draw(st.sampled_from(self.looks))
        if instant(look.window_end) <= self.now:
            self.tell(look)

    @precondition(lambda self: self.state.running)
    @rule(outcome=st.sampled_from(["promoted", "refused", "rolled_back", "failed", "stopped"]), new=st.booleans())
    def the_run_ends(self, outcome: Any, new: bool) -> None:
        assert self.state.running
        self.state = policy.ended(self.state, self.state.running.key, outcome, "told", self.now)
        if outcome == "promoted" and new:
            self.digest = (self.digest + 1) % 10

    @invariant()
    def one_in_flight(self) -> None:
        assert sum(not run.outcome for run in self.state.retrains) <= 1

    @invariant()
    def within_the_budget_and_the_cooldown(self) -> None:
        months = [start.strftime("%Y-%m") for start, _ in self.starts]
        assert all(months.count(month) <= self.spec.per_month for month in months)
        for (before, after), (_, each) in zip(itertools.pairwise(self.passed_at), self.starts[1:], strict=True):
            manual = any(alert.key == each.key and alert.kind == "manual" for alert in self.alerts)
            assert manual or after - before >= duration(self.spec.cooldown)

    @invariant()
    def every_cause_is_one_run(self) -> None:
        keys = [each.key for _, each in self.starts]
        assert len(keys) == len(set(keys))

    def teardown(self) -> None:
        """Nothing more comes in but sound, calm windows: it comes to rest, later after a clock that was far ahead."""
        self.tell(*(Alert(alert.key, "resolved", iso(self.now)) for alert in self.alerts))
        for _ in range(400):
            self.now += 10 * DAY
            self.tell(verdict(self.now, "calm", digest=str(self.digest) * 64))
            if policy.status(self.state, self.spec, self.now) == "resting":
                break
        assert policy.status(self.state, self.spec, self.now) == "resting"
        assert policy.decide(self.state, self.spec, self.now).action == "rest"


Governor.TestCase.settings = settings(max_examples=120, stateful_step_count=40, deadline=None)
TestGovernor = Governor.TestCase
