from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stk_ml.deployment import state
from stk_ml.endpoint_state import Deployment, EndpointState
from stk_ml.errors import UnknownNameError, UsageError


def version(number: int, model: str = "m") -> Deployment:
    return Deployment(f"v{number}", model, number, f"d{number}", f"/models/d{number}")


def serving(*shares: int) -> EndpointState:
    """v1, v2, ... with these shares."""
    found = state.new("e")
    for number in range(1, len(shares) + 1):
        found = state.add(found, version(number))
    return state.traffic(found, {f"v{number}": share for number, share in enumerate(shares, 1)})


def shares(of: EndpointState) -> dict[str, int]:
    return {each.name: each.traffic for each in of.deployments}


def test_promoting_keeps_the_one_before_and_lets_the_older_ones_go() -> None:
    found = state.promote(state.add(serving(0, 100), version(3)), "v3")
    assert shares(found) == {"v2": 0, "v3": 100}


def test_promoting_keeps_shadows() -> None:
    found = state.shadow(state.add(serving(100), version(2)), "v2", True)
    found = state.promote(state.add(found, version(3)), "v3")
    assert [(each.name, each.shadow) for each in found.deployments] == [("v1", False), ("v2", True), ("v3", False)]


def test_a_shadow_that_is_promoted_is_no_shadow_any_more() -> None:
    found = state.promote(state.shadow(state.add(serving(100), version(2)), "v2", True), "v2")
    assert shares(found) == {"v1": 0, "v2": 100}
    assert not any(each.shadow for each in found.deployments)


def test_a_rollback_ends_a_canary() -> None:
    assert shares(state.rollback(serving(90, 10))) == {"v1": 100, "v2": 0}
    assert shares(state.rollback(serving(50, 50))) == {"v1": 100, "v2": 0}
    assert shares(state.rollback(serving(20, 80))) == {"v1": 100, "v2": 0}


def test_a_second_rollback_does_not_bring_back_the_bad_one() -> None:
    back = state.rollback(serving(0, 100))
    assert shares(back) == {"v1": 100, "v2": 0}
    with pytest.raises(UsageError, match="no deployment before it"):
        state.rollback(back)


def test_an_older_version_that_is_deployed_again_is_the_newest() -> None:
    again = state.promote(state.add(serving(0, 100), version(1)), "v1")
    assert shares(again) == {"v2": 0, "v1": 100}
    assert shares(state.rollback(again)) == {"v2": 100, "v1": 0}


def test_a_deployment_with_traffic_is_not_removed() -> None:
    with pytest.raises(UsageError, match="v2 of endpoint e answers 10%"):
        state.remove(serving(90, 10), "v2")
    assert shares(state.remove(serving(0, 100), "v1")) == {"v2": 100}


def test_a_name_that_does_not_exist_is_told_with_those_that_do() -> None:
    for change in (state.remove, state.promote, state.get):
        with pytest.raises(UnknownNameError) as caught:
            change(serving(90, 10), "v3")  # type: ignore[operator]
        assert "v1, v2" in caught.value.hint
    with pytest.raises(UnknownNameError):
        state.traffic(serving(100), {"v1": 90, "v9": 10})


@pytest.mark.parametrize("wrong", [{"v1": 90}, {"v1": 90, "v2": 20}, {"v1": 110, "v2": -10}, {}])
def test_shares_add_up_to_a_hundred(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="add up to 100"):
        state.traffic(serving(90, 10), wrong)


def test_a_shadow_answers_nobody() -> None:
    shadowed = state.shadow(state.add(serving(100), version(2)), "v2", True)
    with pytest.raises(UsageError, match="shadow"):
        state.traffic(shadowed, {"v1": 50, "v2": 50})
    with pytest.raises(UsageError, match="answers 100%"):
        state.shadow(shadowed, "v1", True)
    with pytest.raises(UsageError, match="nothing to shadow"):
        state.shadow(state.add(state.new("e"), version(1)), "v1", True)
    with pytest.raises(UsageError, match="no deployment before"):
        state.rollback(state.shadow(state.add(serving(100), version(2)), "v2", True))


def test_another_model_needs_an_endpoint_of_its_own() -> None:
    with pytest.raises(UsageError, match="serves the model m, not n") as caught:
        state.add(serving(100), version(2, "n"))
    assert "--endpoint" in caught.value.hint


def test_nothing_to_promote_is_said() -> None:
    with pytest.raises(UsageError, match="v1 takes all traffic"):
        state.promote(serving(100))


@pytest.mark.parametrize("name", ["", "-a", "a-", "1a", "a b", "../a", "a" * 63, "a_b", "é"])
def test_a_name_that_no_endpoint_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        state.new(name)


CHANGES = st.one_of(
    st.tuples(st.just("add"), st.integers(1, 5)),
    st.tuples(st.just("remove"), st.integers(1, 5)),
    st.tuples(st.just("promote"), st.integers(1, 5)),
    st.tuples(st.just("rollback"), st.just(0)),
    st.tuples(st.just("shadow"), st.integers(1, 5)),
    st.tuples(st.just("shift"), st.integers(1, 5)),
)


@given(st.lists(CHANGES, max_size=25), st.integers(0, 100))
def test_whatever_is_done_in_whatever_order_the_endpoint_goes_on_answering(
    changes: list[tuple[str, int]], share: int
) -> None:
    found = serving(100)
    for what, number in changes:
        before = found
        try:
            match what:
                case "add":
                    found = state.add(found, version(number))
                case "remove":
                    found = state.remove(found, f"v{number}")
                case "promote":
                    found = state.promote(found, f"v{number}")
                case "rollback":
                    found = state.rollback(found)
                case "shadow":
                    found = state.shadow(found, f"v{number}", True)
                case "shift":
                    found = state.shift(found, f"v{number}", share)
        except UsageError:
            continue
        assert found.revision == before.revision + 1
        assert sum(each.traffic for each in found.deployments) == 100
        assert not any(each.shadow and each.traffic for each in found.deployments)
