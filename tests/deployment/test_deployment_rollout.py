"""The canary's decision: what it may never do, what it does at once, and how often it errs."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stk_ml.deployment import rollout as rollouts
from stk_ml.deployment.rollout import Decision, Rollout, RolloutPolicy
from stk_ml.endpoint_state import Observation
from stk_ml.errors import UsageError
from stk_ml.telemetry import latency

ACTIONS = ["rollback", "wait", "advance", "promote"]
POLICY = RolloutPolicy()


def seen(
    requests: int, errors: int = 0, *, milliseconds: float = 5.0, mean: float = 0.3, deviation: float = 0.2
) -> Observation:
    """What a deployment does whose latencies spread over a few bins."""
    counts = [0] * latency.BINS
    middle = latency.bin(milliseconds / 1000)
    for offset, share in ((-1, 0.2), (0, 0.5), (1, 0.2), (2, 0.1)):
        counts[middle + offset] += round(requests * share)
    total = requests * mean
    squares = requests * (deviation**2 + mean**2)
    return Observation(requests, errors, tuple(counts), requests, total, squares)


def at(step: int = 0, **changes: object) -> Rollout:
    started = rollouts.begin("e", "v1", "v2", POLICY, 0.0)
    return replace(started, step=step, applied=True, baseline=seen(5000), **changes)  # type: ignore[arg-type]


OBSERVATIONS = st.builds(
    lambda requests, share, milliseconds, mean, deviation: seen(
        requests, int(requests * share), milliseconds=milliseconds, mean=mean, deviation=deviation
    ),
    st.integers(0, 20_000),
    st.floats(0, 1),
    st.floats(0.2, 2000),
    st.floats(0, 1),
    st.floats(0, 0.5),
)


def test_two_that_fare_alike_go_through_every_step() -> None:
    rollout, now, shares = rollouts.begin("e", "v1", "v2", POLICY, 0.0), 0.0, []
    while rollout.status == "running":
        shares.append(rollout.share)
        now += 60
        decision = rollouts.decide(rollout, seen(9000), seen(1000), now)
        rollout = rollouts.applied(rollouts.after(rollout, decision, seen(9000), now))
    assert (shares, rollout.status) == ([10, 50, 100], "promoted")
    assert [decision.action for decision in rollout.history] == ["advance", "advance", "promote"]


@pytest.mark.parametrize(
    ("harmful", "named"),
    [
        (seen(400, 60), "error_rate"),
        (seen(400, milliseconds=25), "latency"),
        (seen(400, mean=0.6), "scores"),
        (seen(400, mean=0.05), "scores"),
    ],
)
def test_harm_is_rolled_back_at_once_and_named(harmful: Observation, named: str) -> None:
    decision = rollouts.decide(at(), seen(4000), harmful, now=3.0)
    assert decision.action == "rollback"
    assert [check.name for check in decision.checks if check.passed is False] == [named]


def test_a_challenger_that_only_fails_is_gone_after_few_requests() -> None:
    broken = Observation(20, 20, seen(20).latency)
    assert rollouts.decide(at(), seen(200), broken, now=1.0).action == "rollback"


def test_it_waits_for_requests_and_for_time() -> None:
    assert rollouts.decide(at(), seen(9000), seen(150), now=60.0).action == "wait"
    assert rollouts.decide(at(), seen(9000), seen(1000), now=10.0).action == "wait"
    assert rollouts.decide(at(), seen(9000), seen(1000), now=30.0).action == "advance"


def test_what_cannot_tell_in_time_is_rolled_back() -> None:
    silent = rollouts.decide(at(), seen(9000), Observation(), now=POLICY.max_seconds)
    assert silent.action == "rollback"
    assert "could not tell within 3600 s: 0 of 200 requests" in silent.reason
    between = rollouts.decide(at(), seen(90_000, 900), seen(900, 18), now=POLICY.max_seconds)
    assert between.action == "rollback"
    assert "could not tell" in between.reason
    assert "fails 2.00%, the champion 1.00%" in between.reason


def test_it_looks_again_only_when_the_requests_have_grown_by_half() -> None:
    first = rollouts.decide(at(), seen(900), seen(100), now=5.0)
    rollout = rollouts.after(at(), first, seen(900), 5.0)
    assert (rollout.looks, rollout.looked) == (1, 100)
    assert rollouts.decide(rollout, seen(1200), seen(149, 40), now=6.0).looks == 1
    assert rollouts.decide(rollout, seen(1200), seen(150, 40), now=6.0).action == "rollback"


def test_the_looks_of_a_step_spend_no_more_than_was_allowed() -> None:
    assert sum(1 - rollouts.spent(0.95, look) for look in range(1, 10_000)) < 0.05


def test_the_last_step_is_compared_with_the_step_before() -> None:
    assert rollouts.decide(at(2), Observation(), seen(1000), now=60.0).action == "promote"
    slow = replace(at(2), baseline=seen(5000, milliseconds=1.5))
    assert rollouts.decide(slow, Observation(), seen(1000, milliseconds=30), now=60.0).action == "rollback"


def test_scores_are_compared_side_by_side_and_not_with_other_days() -> None:
    others = seen(1000, mean=0.9)
    assert rollouts.decide(at(1), seen(1000, mean=0.3), others, now=60.0).action == "rollback"
    decision = rollouts.decide(at(2), Observation(), others, now=60.0)
    assert decision.action == "promote"
    assert [check.name for check in decision.checks] == ["error_rate", "latency"]


def test_what_is_too_fast_to_be_noticed_is_not_compared() -> None:
    decision = rollouts.decide(at(), seen(9000, milliseconds=0.1), seen(1000, milliseconds=0.5), now=60.0)
    assert decision.action == "advance"


def test_workers_that_crash_again_and_again_end_it() -> None:
    rollout = replace(at(), crashed=5)
    assert rollouts.decide(rollout, seen(9000), seen(1000), now=60.0, crashed=7).action == "advance"
    decision = rollouts.decide(rollout, seen(90), Observation(), now=1.0, crashed=8)
    assert (decision.action, decision.reason) == ("rollback", "workers crashed 3 times in this step, allowed 2")
    assert rollouts.after(rollout, decision, seen(90), 1.0, 8).status == "rolled_back"
    # A supervisor that was started anew counts from 0.
    assert rollouts.decide(rollout, seen(9000), seen(1000), now=60.0, crashed=0).action == "advance"


def test_a_champion_of_one_score_is_compared_on_the_challengers_scale() -> None:
    constant = seen(5000, mean=0.3, deviation=0.0)
    assert rollouts.decide(at(), constant, seen(1000, mean=0.3), now=60.0).action == "advance"
    assert rollouts.decide(at(), constant, seen(1000, mean=0.6), now=60.0).action == "rollback"
    assert rollouts.decide(at(), constant, seen(1000, mean=0.3, deviation=0.0), now=60.0).action == "advance"
    assert rollouts.decide(at(), constant, seen(1000, mean=0.4, deviation=0.0), now=60.0).action == "wait"


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": ()},
        {"steps": (10, 50)},
        {"steps": (100,)},
        {"crashes": -1},
        {"steps": (50, 10, 100)},
        {"steps": (0, 100)},
        {"min_seconds": 10.0, "max_seconds": 5.0},
        {"min_requests": 0},
        {"level": 1.0},
        {"error_rate": -0.1},
        {"latency_ratio": 1.0},
        {"score_shift": 0.0},
        {"error_rate": float("nan")},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        RolloutPolicy(**wrong)  # type: ignore[arg-type]


@given(OBSERVATIONS, OBSERVATIONS, st.floats(0, 4000), st.integers(0, 2))
def test_it_never_skips_a_step_and_never_goes_on_from_one_that_is_not_healthy(
    champion: Observation, challenger: Observation, now: float, step: int
) -> None:
    before = at(step)
    decision = rollouts.decide(before, champion, challenger, now)
    after = rollouts.after(before, decision, champion, now)
    assert after.step in (step, step + 1)
    if decision.action in ("advance", "promote"):
        assert all(check.passed for check in decision.checks)
        assert len(decision.checks) == (2 if step == len(POLICY.steps) - 1 else 3)
        assert challenger.requests >= POLICY.min_requests
        assert now >= POLICY.min_seconds
    assert (after.status == "promoted") == (decision.action == "promote")
    if after.status == "promoted":
        assert step == len(POLICY.steps) - 1
    assert after.applied == (decision.action == "wait")


@given(OBSERVATIONS, OBSERVATIONS, st.integers(1, 500), st.floats(0, 3599))
def test_more_errors_never_make_it_look_better(
    champion: Observation, challenger: Observation, more: int, now: float
) -> None:
    worse = replace(challenger, errors=min(challenger.errors + more, challenger.requests))
    first, second = (rollouts.decide(at(), champion, each, now).action for each in (challenger, worse))
    assert ACTIONS.index(second) <= ACTIONS.index(first)


@given(st.lists(st.tuples(OBSERVATIONS, OBSERVATIONS), min_size=1, max_size=5), st.floats(1, 600))
@settings(max_examples=50)
def test_it_always_ends_and_can_be_stored_at_any_time(
    looks: list[tuple[Observation, Observation]], seconds: float
) -> None:
    rollout, now = rollouts.begin("e", "v1", "v2", POLICY, 0.0), 0.0
    for turn in range(round(len(POLICY.steps) * (POLICY.max_seconds / seconds + 2))):
        now += seconds
        champion, challenger = looks[turn % len(looks)]
        rollout = rollouts.after(rollout, rollouts.decide(rollout, champion, challenger, now), champion, now)
        if rollout.status != "running":
            break
    assert rollout.status in ("promoted", "rolled_back")
    assert msgspec.json.decode(msgspec.json.encode(rollout), type=Rollout) == rollout
    assert rollout.reason


def play(
    rng: np.random.Generator, rate: float, error: float, slower: float, shift: float, policy: RolloutPolicy
) -> Decision:
    """One rollout under simulated traffic of ``rate`` requests per second, looked at every 2 seconds."""
    rollout, now = rollouts.begin("e", "v1", "v2", policy, 0.0), 0.0
    both = [Observation(latency=latency.merge())] * 2
    while True:
        now += 2.0
        share = rollout.share / 100
        new = (rng.poisson(2 * rate * (1 - share)), rng.poisson(2 * rate * share))
        both = [
            _more(rng, both[0], new[0], 0.002, 0.005, 0.0),
            _more(rng, both[1], new[1], 0.002 + error, 0.005 * slower, shift),
        ]
        decision = rollouts.decide(rollout, both[0], both[1], now)
        after = rollouts.after(rollout, decision, both[0], now)
        if after.status != "running":
            return decision
        if after.step != rollout.step:
            both = [Observation(latency=latency.merge())] * 2
        rollout = after


def _more(
    rng: np.random.Generator, old: Observation, count: int, error: float, seconds: float, shift: float
) -> Observation:
    times = rng.lognormal(np.log(seconds), 0.5, count)
    bins = np.bincount(np.searchsorted(latency.EDGES, times, side="right"), minlength=latency.BINS)
    scores = rng.beta(2, 5, count) + shift * 0.16
    return Observation(
        old.requests + count,
        old.errors + int(rng.binomial(count, error)),
        tuple(int(a + b) for a, b in zip(old.latency, bins, strict=True)),
        old.scores + count,
        old.score_sum + float(scores.sum()),
        old.score_squares + float(np.square(scores).sum()),
    )


@pytest.mark.parametrize(
    ("error", "slower", "shift", "promoted"),
    [
        (0.0, 1.0, 0.0, (0.95, 1.0)),
        (0.05, 1.0, 0.0, (0.0, 0.0)),
        (0.0, 2.0, 0.0, (0.0, 0.0)),
        (0.0, 1.0, 0.6, (0.0, 0.0)),
        (0.012, 1.0, 0.0, (0.0, 0.05)),
    ],
    ids=["alike", "fails", "slow", "shifted", "just too many failures"],
)
def test_how_often_it_errs(error: float, slower: float, shift: float, promoted: tuple[float, float]) -> None:
    rng = np.random.default_rng(1)
    ends = [play(rng, 100.0, error, slower, shift, replace(POLICY, max_seconds=600.0)) for _ in range(60)]
    share = np.mean([end.action == "promote" for end in ends])
    assert promoted[0] <= share <= promoted[1]
