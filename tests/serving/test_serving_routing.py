from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stk_ml.endpoint_state import Deployment
from stk_ml.errors import RequestError
from stk_ml.serving.routing import Routes, percent


class Loaded:
    """What routing looks at: a deployment, and which model it is."""

    def __init__(self, name: str, traffic: int, *, shadow: bool = False, model: str = "late", version: int = 1) -> None:
        self.deployment = Deployment(name, model, version, "", "", traffic, shadow)

    def answers_to(self, name: str, version: str) -> bool:
        return name == self.deployment.model and version in ("", str(self.deployment.version))


def routes(*loaded: Any) -> Routes:
    return Routes(loaded, 1)


def test_one_deployment_takes_everything() -> None:
    only = Loaded("v1", 100)
    assert routes(only).only is only
    assert routes(only).pick(b"any") is only


def test_a_shadow_is_copied_to_and_never_picked() -> None:
    live, shadow = Loaded("v1", 100), Loaded("v2", 0, shadow=True)
    found = routes(live, shadow)
    assert found.shadows == (shadow,)
    assert {found.pick(b"%d" % n) for n in range(500)} == {live}


def test_traffic_follows_the_weights_and_a_request_id_always_meets_the_same_deployment() -> None:
    old, new = Loaded("v1", 90), Loaded("v2", 10)
    found = routes(old, new)
    ids = [b"3f9a1c22dead-%x" % n for n in range(20_000)]
    picked = [found.pick(name) for name in ids]
    assert picked == [found.pick(name) for name in ids]
    assert 0.09 < sum(model is new for model in picked) / len(ids) < 0.11


def test_more_canary_traffic_keeps_those_who_already_had_the_canary() -> None:
    ids = [b"id-%d" % n for n in range(2_000)]
    few = routes(new := Loaded("v2", 10), old := Loaded("v1", 90))
    had = {name for name in ids if few.pick(name) is new}
    new.deployment, old.deployment = Deployment("v2", "late", 1, "", "", 50), Deployment("v1", "late", 1, "", "", 50)
    more = routes(new, old)
    assert had
    assert all(more.pick(name) is new for name in had)


def test_a_deployment_can_be_asked_for_by_name_even_without_traffic() -> None:
    old, new = Loaded("v1", 100), Loaded("v2", 0)
    assert routes(old, new).pick(b"x", b"v2") is new


def test_an_unknown_deployment_is_404_and_names_those_there_are() -> None:
    with pytest.raises(RequestError, match="no deployment 'v9'") as caught:
        routes(Loaded("v1", 100)).pick(b"x", b"v9")
    assert caught.value.status == 404
    assert "v1" in caught.value.hint


def test_without_traffic_the_endpoint_is_unavailable() -> None:
    with pytest.raises(RequestError) as caught:
        routes(Loaded("v1", 0)).pick(b"x")
    assert caught.value.status == 503


def test_the_protocol_path_picks_model_and_version() -> None:
    one, two = Loaded("v1", 100, version=1), Loaded("v2", 0, version=2)
    found = routes(one, two)
    assert found.of_model("late", "", b"x") is one
    assert found.of_model("late", "2", b"x") is two
    with pytest.raises(RequestError) as caught:
        found.of_model("lat", "", b"x")
    assert (caught.value.status, "late" in caught.value.hint) == (404, True)


@given(st.binary(max_size=64))
def test_every_request_id_has_a_percent(request_id: bytes) -> None:
    assert 0 <= percent(request_id) < 100
