"""A canary rollout as a pure decision: data and the time in, one of wait, advance, promote, rollback out.

At each step the challenger answers a share of the requests and is compared with the champion over the same stretch of
time, by three checks: how much more often it fails, how much slower its slow requests are, how far its scores lie from
the champion's. Each gives an interval and a largest allowed value:

- the whole interval lies in what is allowed: the check passes;
- none of it does: harm is shown, and the challenger is rolled back at once;
- else it cannot tell yet, and waits for more requests.

A step is healthy once every check passes, ``min_requests`` are in and ``min_seconds`` are over. What cannot tell by
``max_seconds`` is rolled back too: not having been shown to be harmful is not enough to answer everyone.

Looking again and again would find by chance what is not there. So it looks only when the requests have grown by half,
and look k spends the share 6 / (pi k)^2 of the allowed error 1 - ``level`` (these shares add up to 1; by the union
bound all looks of a step together err no more often than that).

At the last step the champion answers nobody: there failures and latency are compared with what the champion did in the
step before. Scores are not: other days bring other rows, and beside each other they were compared at the steps before.
A request that kills its worker leaves no trace in the log; so a step in which workers crash more often than
``crashes`` is rolled back, whoever of the two it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

from stk_ml.contracts import Interval
from stk_ml.endpoint_state import Observation
from stk_ml.errors import UsageError
from stk_ml.statistics import differences
from stk_ml.telemetry import latency

Action = Literal["wait", "advance", "promote", "rollback"]
#: ``stopped``: somebody set the traffic by hand.
Status = Literal["running", "promoted", "rolled_back", "stopped"]
_FIRST_LOOK = 16
_GROWTH = 1.5
#: Stands for infinity as a logarithm: JSON has none, and exp of it is still a number.
_UNBOUNDED = 700.0


@dataclass(frozen=True)
class RolloutPolicy:
    """What a canary must show.

    Attributes:
        steps: percent of the requests, two or more, rising, the last is 100.
        min_requests: that the challenger must have answered in a step. The intervals may ask for more: at an
            ``error_rate`` of 0.01 it takes some 1,500 requests without a failure to show that no more than that fail.
        min_seconds: that a step lasts at least.
        max_seconds: after which a step that cannot tell is rolled back.
        error_rate: largest allowed increase of the share of requests that fail (status 500 and above).
        latency_ratio: largest allowed ratio of the 95th percentiles of latency.
        latency_floor: seconds; a percentile below counts as this, for nobody notices less.
        score_shift: largest allowed difference of the mean scores, in the champion's standard deviations.
        level: of the intervals, over all looks of a step.
        crashes: largest allowed number of crashes of workers in a step.

    Raises:
        UsageError: a value makes no sense.
    """

    steps: tuple[int, ...] = (10, 50, 100)
    min_requests: int = 200
    min_seconds: float = 30.0
    max_seconds: float = 3600.0
    error_rate: float = 0.01
    latency_ratio: float = 1.5
    latency_floor: float = 0.001
    score_shift: float = 0.25
    level: float = 0.95
    crashes: int = 2

    def __post_init__(self) -> None:
        rising = all(before < after for before, after in zip((0, *self.steps), self.steps, strict=False))
        if len(self.steps) < 2 or not rising or self.steps[-1] != 100:
            raise UsageError(
                f"the steps {', '.join(map(str, self.steps))} of a rollout do not rise to 100 in two or more",
                hint="such as 10,50,100",
            )
        if not 0 <= self.min_seconds <= self.max_seconds:
            raise UsageError(f"a step cannot last {self.min_seconds:g} s at least and {self.max_seconds:g} s at most")
        if self.min_requests < 1 or self.crashes < 0 or not 0.5 <= self.level < 1:
            raise UsageError("min_requests must be 1 or more, crashes 0 or more, and level from 0.5 to below 1")
        if not 0 <= self.error_rate < 1 or not self.latency_ratio > 1 or not self.score_shift > 0:
            raise UsageError("error_rate must be from 0 to below 1, latency_ratio above 1 and score_shift above 0")

    def starting_at(self, percent: int) -> RolloutPolicy:
        """The same with another first step; later ones that are not above it go.

        Example:
            >>> RolloutPolicy().starting_at(60).steps
            (60, 100)
        """
        return replace(self, steps=(percent, *(step for step in self.steps if step > percent)))


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        name: ``error_rate``, ``latency`` or ``scores``.
        passed: True or False when the interval tells, None when it does not yet.
        value: estimate and interval; None when nothing can be estimated.
        detail: for people.
    """

    name: str
    passed: bool | None
    value: Interval | None
    detail: str


@dataclass(frozen=True)
class Decision:
    """What to do now, and why. ``time`` is unix seconds; ``looks`` counts the looks of the step, this one included."""

    action: Action
    reason: str
    checks: tuple[Check, ...] = ()
    time: float = 0.0
    step: int = 0
    requests: int = 0
    looks: int = 0


@dataclass(frozen=True)
class Rollout:
    """``rollout.json``: all that is needed to go on after a crash.

    Attributes:
        endpoint, champion, challenger: names of the endpoint and of its two deployments.
        policy: what the challenger must show.
        step: index in the policy's steps.
        since: unix seconds; when the step began.
        status: how it stands.
        applied: whether the endpoint's traffic has been set as this rollout wants it. It is written first with False,
            then the traffic is set, then True is written: whoever finds False sets the traffic again.
        baseline: what the champion did in the step before; for the last step.
        crashed: crashes of the endpoint's workers up to when the step began.
        looks, looked: looks spent in this step, and the challenger's requests at the last of them.
        reason: why it ended.
        history: what was decided at each look, oldest first.
    """

    endpoint: str
    champion: str
    challenger: str
    policy: RolloutPolicy = field(default_factory=RolloutPolicy)
    step: int = 0
    since: float = 0.0
    status: Status = "running"
    applied: bool = False
    baseline: Observation = field(default_factory=Observation)
    crashed: int = 0
    looks: int = 0
    looked: int = 0
    reason: str = ""
    history: tuple[Decision, ...] = ()

    @property
    def share(self) -> int:
        """Percent of the requests that the challenger is to answer now."""
        return {"promoted": 100, "rolled_back": 0}.get(self.status, self.policy.steps[self.step])


def begin(
    endpoint: str, champion: str, challenger: str, policy: RolloutPolicy, now: float, crashed: int = 0
) -> Rollout:
    """A rollout at its first step, not applied yet."""
    return Rollout(endpoint, champion, challenger, policy, since=now, crashed=crashed)


def decide(rollout: Rollout, champion: Observation, challenger: Observation, now: float, crashed: int = 0) -> Decision:
    """What to do with a running rollout.

    Args:
        rollout: as it stands.
        champion: what it did since the step began.
        challenger: what it did since the step began.
        now: unix seconds.
        crashed: crashes of the endpoint's workers up to now.

    Example:
        >>> bins = tuple(1000 if place == 20 else 0 for place in range(latency.BINS))
        >>> well = Observation(1000, 0, bins, 1000, 300.0, 120.0)
        >>> rollout = begin("e", "v1", "v2", RolloutPolicy(), now=0.0)
        >>> decide(rollout, well, well, now=60.0).action
        'advance'
        >>> decide(rollout, well, replace(well, errors=500), now=60.0).action
        'rollback'
    """
    policy, requests, seconds = rollout.policy, challenger.requests, now - rollout.since
    over, crashes = seconds >= policy.max_seconds, crashed - rollout.crashed
    if crashes > policy.crashes:
        reason = f"workers crashed {crashes} times in this step, allowed {policy.crashes}"
        return Decision("rollback", reason, (), now, rollout.step, requests, rollout.looks + 1)
    if not over and requests < max(_FIRST_LOOK, math.ceil(rollout.looked * _GROWTH)):
        return Decision("wait", _waits(policy, requests, seconds), (), now, rollout.step, requests, rollout.looks)
    last = rollout.step == len(policy.steps) - 1
    looks = rollout.looks + 1
    compared, level = rollout.baseline if last else champion, spent(policy.level, looks)
    checks = tuple(compare(policy, compared, challenger, level, scores=not last))
    harmful = [check for check in checks if check.passed is False]
    unclear = [check for check in checks if check.passed is None]
    action: Action = "wait"
    reason = _waits(policy, requests, seconds)
    if harmful:
        action, reason = "rollback", "; ".join(check.detail for check in harmful)
    elif not unclear and requests >= policy.min_requests and seconds >= policy.min_seconds:
        action = "promote" if last else "advance"
        reason = f"healthy at {policy.steps[rollout.step]}% after {requests:,} requests"
    elif over:
        missing = [f"{requests:,} of {policy.min_requests:,} requests"] if requests < policy.min_requests else []
        why = "; ".join([*missing, *(check.detail for check in unclear)]) or "too few looks"
        action, reason = "rollback", f"could not tell within {policy.max_seconds:g} s: {why}"
    elif requests >= policy.min_requests and unclear:
        reason = "cannot tell yet: " + "; ".join(check.detail for check in unclear)
    return Decision(action, reason, checks, now, rollout.step, requests, looks)


def after(rollout: Rollout, decision: Decision, champion: Observation, now: float, crashed: int = 0) -> Rollout:
    """The rollout once a decision is taken; not applied yet when the traffic is to change.

    Args:
        rollout: as it stood.
        decision: of :func:`decide`.
        champion: what the champion did in the step.
        now: unix seconds.
        crashed: crashes of the endpoint's workers up to now.
    """
    if decision.looks == rollout.looks:
        return rollout
    seen = replace(
        rollout, looks=decision.looks, looked=decision.requests, history=(*rollout.history, decision), applied=False
    )
    if decision.action == "advance":
        following = replace(seen, step=rollout.step + 1, since=now, crashed=crashed)
        return replace(following, looks=0, looked=0, baseline=champion)
    if decision.action == "promote":
        return replace(seen, status="promoted", reason=decision.reason)
    if decision.action == "rollback":
        return replace(seen, status="rolled_back", reason=decision.reason)
    return replace(seen, applied=rollout.applied)


def ended(rollout: Rollout, status: Status, reason: str) -> Rollout:
    """The rollout ended by hand; the traffic is set by whoever ends it."""
    return replace(rollout, status=status, reason=reason, applied=True)


def applied(rollout: Rollout) -> Rollout:
    """The rollout once the traffic is as it wants it."""
    return replace(rollout, applied=True)


def spent(level: float, look: int) -> float:
    """The level of look number ``look`` (from 1).

    Example:
        >>> round(spent(0.95, 1), 4), round(spent(0.95, 10), 5)
        (0.9696, 0.9997)
    """
    return 1 - (1 - level) * 6 / (math.pi * look) ** 2


def compare(
    policy: RolloutPolicy, champion: Observation, challenger: Observation, level: float, *, scores: bool = True
) -> Iterator[Check]:
    """The checks at a level; ``scores``: whether both saw rows of the same time, so that their scores compare."""
    yield _error_rate(policy, champion, challenger, level)
    yield _latency(policy, champion, challenger, level)
    if scores:
        yield _scores(policy, champion, challenger, level)


def _error_rate(policy: RolloutPolicy, champion: Observation, challenger: Observation, level: float) -> Check:
    new, old = (differences.proportion(each.errors, each.requests, level) for each in (challenger, champion))
    found = differences.difference(new, old)
    detail = (
        f"fails {new.value:.2%}, the champion {old.value:.2%}: {found.low:+.2%} to {found.high:+.2%}, "
        f"allowed {policy.error_rate:+.2%}"
    )
    return Check("error_rate", _verdict(found, -math.inf, policy.error_rate), found, detail)


def _latency(policy: RolloutPolicy, champion: Observation, challenger: Observation, level: float) -> Check:
    new, old = (_log_p95(each, policy.latency_floor, level) for each in (challenger, champion))
    found = differences.difference(new, old)
    value, least, most = (math.exp(min(each, _UNBOUNDED)) for each in (found.value, found.low, found.high))
    ratio = Interval(value, least, most, level)
    detail = (
        f"p95 {math.exp(new.value) * 1e3:.3g} ms, the champion's {math.exp(old.value) * 1e3:.3g} ms: "
        f"ratio {ratio.low:.2f} to {_shown(ratio.high)}, allowed {policy.latency_ratio:g}"
    )
    return Check("latency", _verdict(ratio, 0.0, policy.latency_ratio), ratio, detail)


def _log_p95(seen: Observation, floor: float, level: float) -> Interval:
    """The logarithm of the 95th percentile of latency; unbounded where the sample does not bound it."""
    low, high = differences.ranks(0.95, sum(seen.latency), level)

    def log(share: float) -> float:
        return math.log(max(latency.quantile(seen.latency, share), floor))

    least = log(low) if low > 0 else math.log(floor)
    value = log(0.95)
    return Interval(value, min(least, value), max(log(high), value) if high <= 1 else _UNBOUNDED, level)


def _scores(policy: RolloutPolicy, champion: Observation, challenger: Observation, level: float) -> Check:
    new, old = (
        differences.mean(each.score_sum, each.score_squares, each.scores, level) for each in (challenger, champion)
    )
    found = differences.difference(new, old)
    if not (math.isfinite(found.low) and math.isfinite(found.high)):
        detail = f"{challenger.scores:,} scores, the champion's {champion.scores:,}: too few to compare"
        return Check("scores", None, None, detail)
    # A champion that gives one score only has no scale; then the challenger's tells how far off that score is.
    units = (differences.deviation(each.score_sum, each.score_squares, each.scores) for each in (champion, challenger))
    unit = next((each for each in units if each > 0), 0.0)
    if not unit:
        same = math.isclose(new.value, old.value, rel_tol=1e-6, abs_tol=1e-12)
        detail = f"always the score {new.value:.4g}, the champion always {old.value:.4g}"
        return Check("scores", True if same else None, None, detail)
    shift = Interval(found.value / unit, found.low / unit, found.high / unit, level)
    detail = (
        f"mean score {new.value:.4g}, the champion's {old.value:.4g}: {shift.low:+.2f} to {shift.high:+.2f} standard "
        f"deviations, allowed {policy.score_shift:g} either way"
    )
    return Check("scores", _verdict(shift, -policy.score_shift, policy.score_shift), shift, detail)


def _verdict(found: Interval, low: float, high: float) -> bool | None:
    if low <= found.low and found.high <= high:
        return True
    return False if found.low > high or found.high < low else None


def _waits(policy: RolloutPolicy, requests: int, seconds: float) -> str:
    return f"{requests:,} of {policy.min_requests:,} requests, {seconds:.0f} of {policy.min_seconds:g} s"


def _shown(bound: float) -> str:
    return "unbounded" if bound > 1e6 else f"{bound:.2f}"
