"""When to train again: a pure governor. Its state, what has happened and ``now`` in; a decision and its reason out.

A retrain is asked for when k of the last n windows alarm and the newest of them does, or by an alert. What is asked for
is granted unless something speaks against it, looked at in this order:

======== ==================================================================================
wait     a retrain is running: one at a time per model
blocked  the newest window is broken: nothing is learned from such data, and a person is told
blocked  the breaker is open: the last retrains in a row brought no better model
wait     cooling down since the last start
wait     the budget of the calendar month (UTC) is spent
======== ==================================================================================

A start uses up what asked for it: windows that ended and alerts that fired up to then ask for nothing more, so the same
verdict or alert is one retrain however often it comes. After a promotion the drift must be seen to be gone (a stable
window) or another model be watched before windows ask again. A retrain without a better model may be tried again when
the cooldown is over and new windows alarm, for there are new rows by then; the breaker ends that. A person (an alert of
kind ``manual``) need not wait for the cooldown and the breaker, but for all else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from stk_ml.model_policies import RetrainSpec
from stk_ml.model_spec import duration, instant
from stk_ml.monitor_state import MonitorVerdict
from stk_ml.retraining.governor_state import Alert, Decision, GovernorState, Outcome, Retrain, Seen, Step, iso

__all__ = [
    "Alert",
    "Decision",
    "GovernorState",
    "Outcome",
    "Retrain",
    "Seen",
    "Step",
    "broken_data",
    "decide",
    "ended",
    "expired",
    "iso",
    "moved",
    "observe",
    "paused_until",
    "started",
    "status",
]

Event: TypeAlias = "MonitorVerdict | Alert"
Status = Literal["resting", "alarmed", "cooling", "running", "blocked", "open"]
USELESS = ("refused", "rolled_back", "failed", "timeout")
#: A retrain of which nothing was heard for so long, and whose process is gone, has ended.
TIMEOUT = timedelta(days=1)
_KEPT_WINDOWS, _KEPT_RETRAINS, _KEPT_KEYS = 64, 64, 256


def observe(state: GovernorState, event: Event, now: datetime) -> GovernorState:
    """The state after a verdict or an alert; the same again changes nothing.

    Args:
        state: as it stands.
        event: what came in.
        now: an alert from the future counts as one of now.
    """
    if isinstance(event, MonitorVerdict):
        return _observe_window(state, _seen(event))
    if event.key in state.answered:
        return state
    if event.kind == "resolved":
        return _answer(state, [event.key])
    if any(alert.key == event.key for alert in state.alerts):
        return state
    fired = min(instant(event.time), now)
    if event.kind == "fired" and state.retrains and fired <= _past(state, state.retrains[-1].seen, now):
        return _answer(state, [event.key])
    return replace(state, alerts=_capped((*state.alerts, replace(event, time=iso(fired)))))


def decide(state: GovernorState, spec: RetrainSpec, now: datetime) -> Decision:
    """What to do now; changes nothing.

    Example:
        >>> june = datetime(2024, 6, 1, tzinfo=UTC)
        >>> state = GovernorState("m")
        >>> decide(state, RetrainSpec(), june).action
        'rest'
        >>> state = observe(state, Alert("a1", "fired", "2024-06-01T00:00:00Z", "drift in weight"), june)
        >>> decision = decide(state, RetrainSpec(), june)
        >>> decision.action, decision.reason
        ('start', 'drift in weight')
        >>> state = started(state, decision, june)
        >>> decide(state, RetrainSpec(), june).action, status(state, RetrainSpec(), june)
        ('wait', 'running')
        >>> state = ended(state, "a1", "promoted", "better by 0.01", june)
        >>> decide(state, RetrainSpec(), june).action, status(state, RetrainSpec(), june)
        ('rest', 'cooling')
    """
    run, broken = state.running, broken_data(state)
    if run:
        until = iso(_past(state, run.updated, now) + TIMEOUT)
        reason = f"a retrain is running since {run.started}, step {run.step}"
        said = f"{reason}; {broken[1]}" if broken else reason
        return Decision("wait", said, run.key, until, notify=broken is not None)
    if broken:
        return Decision("blocked", broken[1], broken[0], notify=True)
    cause = _cause(state, spec, now)
    if cause is None:
        return Decision("rest", _calm(state, spec, now))
    key, because, manual = cause
    opened = None if manual else _open_until(state, spec, now)
    if opened:
        reason = f"the last {_useless(state)} retrains in a row brought no better model; asked for: {because}"
        return Decision("blocked", reason, key, iso(opened), notify=True)
    cooled = None if manual else _cooling_until(state, spec, now)
    if cooled:
        return Decision("wait", f"cooling down since {state.retrains[-1].started}: {because}", key, iso(cooled))
    spent = len(_this_month(state, now))
    if spent >= spec.per_month:
        reason = f"{spent} of {spec.per_month} retrains of {now.astimezone(UTC):%Y-%m} are used: {because}"
        return Decision("wait", reason, key, iso(_next_month(now)))
    return Decision("start", because, key)


def started(state: GovernorState, decision: Decision, now: datetime) -> GovernorState:
    """The state once the decision to start is taken: the run is in flight, and what asked for it is answered.

    Raises:
        ValueError: the decision is not to start, or a retrain is running.
    """
    if decision.action != "start" or state.running:
        raise ValueError(f"no retrain can start on {decision.action!r} with {len(state.retrains)} retrains before")
    newest = _newest(state)
    seen = max(now, instant(newest.end)) if newest else now
    run = Retrain(decision.key, iso(now), decision.reason, iso(seen), newest.digest if newest else "", updated=iso(now))
    month = _this_month(state, now)
    kept = state.retrains[-max(_KEPT_RETRAINS, len(month)) :]
    state = _answer(state, [decision.key, *(a.key for a in state.alerts)])
    return replace(state, retrains=(*kept, run), set_back="")


def moved(
    state: GovernorState,
    key: str,
    now: datetime,
    *,
    step: Step,
    champion: int | None = None,
    version: int = 0,
    reason: str = "",
) -> GovernorState:
    """The state once the running retrain has reached a step, or was heard of again; what is not given stays."""
    run = _running(state, key)
    champion = run.champion if champion is None else champion
    run = replace(
        run,
        step=step,
        champion=champion,
        version=version or run.version,
        reason=reason or run.reason,
        updated=iso(now),
    )
    return replace(state, retrains=(*state.retrains[:-1], run))


def ended(
    state: GovernorState, key: str, outcome: Outcome, reason: str, now: datetime, *, version: int = 0
) -> GovernorState:
    """The state once the running retrain has ended. A promotion answers the alerts that fired meanwhile, too.

    Raises:
        ValueError: that retrain is not running.
    """
    run = _running(state, key)
    version = version or run.version
    run = replace(run, outcome=outcome, reason=reason, version=version, ended=iso(now), updated=iso(now))
    state = replace(state, retrains=(*state.retrains[:-1], run))
    if outcome != "promoted":
        return state
    return _answer(state, [a.key for a in state.alerts if a.kind != "broken"])


def expired(state: GovernorState, now: datetime, *, alive: bool = False) -> GovernorState:
    """What time alone changes: ends a retrain of which nothing was heard for :data:`TIMEOUT`, unless its process lives.

    Where the clock was set back, what lies in the future counts as of when that was first seen: a wrong clock silences
    nobody for longer than a right one.
    """
    state = _set_back(state, now)
    run = state.running
    if run is None or alive or now < _past(state, run.updated, now) + TIMEOUT:
        return state
    return ended(state, run.key, "timeout", f"nothing was heard of it since {run.updated}, step {run.step}", now)


def status(state: GovernorState, spec: RetrainSpec, now: datetime) -> Status:
    """How it stands, in one word: what speaks against a retrain first, then whether one is asked for."""
    if state.running:
        return "running"
    if broken_data(state):
        return "blocked"
    if _open_until(state, spec, now):
        return "open"
    if _cooling_until(state, spec, now):
        return "cooling"
    alarmed = _cause(state, spec, now) or any(each.says == "alarm" for each in _counting(state, spec, now)[-1:])
    return "alarmed" if alarmed else "resting"


def paused_until(state: GovernorState, spec: RetrainSpec, now: datetime) -> str:
    """When the breaker closes, or the cooldown is over, ISO 8601 with Z; empty when neither holds."""
    until = _open_until(state, spec, now) or _cooling_until(state, spec, now)
    return iso(until) if until else ""


def _seen(verdict: MonitorVerdict) -> Seen:
    worse = any(each.worse and not each.muted for each in verdict.performance)
    says: Literal["alarm", "calm", "unclear", "broken"] = "unclear"
    if verdict.broken:
        says = "broken"
    elif verdict.alarm or worse or verdict.answer == "drift":
        says = "alarm"
    elif verdict.answer == "stable":
        says = "calm"
    broken = "; ".join(f"{each.check} {each.column}: {each.detail}".replace(" :", ":") for each in verdict.quality)
    return Seen(verdict.digest, verdict.window_start, verdict.window_end, says, (broken or verdict.reason)[:400])


def _observe_window(state: GovernorState, seen: Seen) -> GovernorState:
    """A window looked at again replaces what it said before."""
    same = (seen.digest, seen.start, seen.end)
    others = [each for each in state.windows if (each.digest, each.start, each.end) != same]
    if seen.says in ("alarm", "calm"):
        end = instant(seen.end)
        state = _answer(state, [a.key for a in state.alerts if a.kind == "broken" and instant(a.time) < end])
    return replace(state, windows=tuple(sorted([*others, seen], key=lambda each: instant(each.end))[-_KEPT_WINDOWS:]))


def _answer(state: GovernorState, keys: Sequence[str]) -> GovernorState:
    known = set(state.answered)
    added = tuple(key for key in dict.fromkeys(keys) if key not in known)
    left = tuple(alert for alert in state.alerts if alert.key not in keys)
    return replace(state, alerts=left, answered=(*state.answered, *added)[-_KEPT_KEYS:])


def _capped(alerts: Sequence[Alert]) -> tuple[Alert, ...]:
    """Without the oldest of too many that fired; what forbids a retrain, or what a person asked for, is never lost."""
    over = sum(alert.kind == "fired" for alert in alerts) - _KEPT_KEYS
    dropped = {alert.key for alert in [each for each in alerts if each.kind == "fired"][: max(0, over)]}
    return tuple(alert for alert in alerts if alert.key not in dropped)


def _set_back(state: GovernorState, now: datetime) -> GovernorState:
    """Notes that the clock was set back; windows that are yet to end are looked at again once they have."""
    windows = tuple(each for each in state.windows if instant(each.end) <= now)
    alerts = tuple(replace(each, time=iso(min(instant(each.time), now))) for each in state.alerts)
    last = state.retrains[-1] if state.retrains else None
    ahead = last and max(map(instant, filter(None, (last.started, last.seen, last.updated, last.ended)))) > now
    seen_before = state.set_back and instant(state.set_back) <= now
    set_back = (state.set_back if seen_before else iso(now)) if ahead else ""
    return replace(state, windows=windows, alerts=alerts, set_back=set_back)


def _past(state: GovernorState, text: str, now: datetime) -> datetime:
    """A remembered time; one that lies in the future counts as of when the clock was seen to have been set back."""
    moment = instant(text)
    if moment <= now:
        return moment
    return min(instant(state.set_back), now) if state.set_back else now


def _newest(state: GovernorState) -> Seen | None:
    return state.windows[-1] if state.windows else None


def broken_data(state: GovernorState) -> tuple[str, str] | None:
    """Key and reason of what says that the newest data is broken."""
    newest = _newest(state)
    if newest and newest.says == "broken":
        reason = f"the data up to {newest.end} is broken, so nothing is learned from it: {newest.reason}"
        return _key(state, newest), reason
    alert = next((each for each in reversed(state.alerts) if each.kind == "broken"), None)
    return (alert.key, f"an alert says that the data is broken: {alert.reason or alert.key}") if alert else None


def _key(state: GovernorState, seen: Seen) -> str:
    return f"{state.model}:{seen.digest[:12]}:{seen.end}"


def _counting(state: GovernorState, spec: RetrainSpec, now: datetime) -> tuple[Seen, ...]:
    """The last n windows of the model that is watched now, without those that a retrain has answered."""
    newest, last = _newest(state), state.retrains[-1] if state.retrains else None
    if newest is None:
        return ()
    own = [each for each in state.windows if each.digest == newest.digest]
    if last:
        own = [each for each in own if instant(each.end) > _past(state, last.seen, now)]
        if last.outcome == "promoted" and last.watched == newest.digest:
            calm = next((place for place, each in enumerate(own) if each.says == "calm"), len(own))
            own = own[calm:]
    return tuple(own[-spec.of :])


def _cause(state: GovernorState, spec: RetrainSpec, now: datetime) -> tuple[str, str, bool] | None:
    """Key and reason of what asks for a retrain, and whether it is a person."""
    for manual in (True, False):
        for alert in state.alerts:
            if alert.kind == ("manual" if manual else "fired"):
                return alert.key, alert.reason or f"alert {alert.key}", manual
    windows = _counting(state, spec, now)
    alarming = [each for each in windows if each.says == "alarm"]
    if not alarming or alarming[-1] is not windows[-1] or len(alarming) < spec.windows:
        return None
    told = f": {alarming[-1].reason}" if alarming[-1].reason else ""
    because = f"{len(alarming)} of the last {len(windows)} windows alarm, the newest too{told}"
    return _key(state, alarming[-1]), because, False


def _calm(state: GovernorState, spec: RetrainSpec, now: datetime) -> str:
    windows = _counting(state, spec, now)
    alarming = sum(each.says == "alarm" for each in windows)
    if not windows:
        return "no window since the last retrain alarms" if state.windows else "no window has been looked at yet"
    return (
        f"{alarming} of the last {len(windows)} windows alarm; {spec.windows} of {spec.of} and the newest ask for one"
    )


def _useless(state: GovernorState) -> int:
    """Retrains in a row, the last included, that brought no better model."""
    return next(
        (count for count, run in enumerate(reversed(state.retrains)) if run.outcome not in USELESS),
        len(state.retrains),
    )


def _open_until(state: GovernorState, spec: RetrainSpec, now: datetime) -> datetime | None:
    """When an open breaker lets one retrain through again; None when it is closed."""
    if not state.retrains or _useless(state) < spec.breaker:
        return None
    until = _past(state, state.retrains[-1].ended, now) + duration(spec.breaker_pause)
    return until if now < until else None


def _cooling_until(state: GovernorState, spec: RetrainSpec, now: datetime) -> datetime | None:
    if not state.retrains:
        return None
    until = _past(state, state.retrains[-1].started, now) + duration(spec.cooldown)
    return until if now < until else None


def _this_month(state: GovernorState, now: datetime) -> list[Retrain]:
    return [run for run in state.retrains if iso(_past(state, run.started, now))[:7] == iso(now)[:7]]


def _next_month(now: datetime) -> datetime:
    first = now.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=32)).replace(day=1)


def _running(state: GovernorState, key: str) -> Retrain:
    if state.running is None or state.running.key != key:
        raise ValueError(f"no retrain {key!r} is running")
    return state.running
