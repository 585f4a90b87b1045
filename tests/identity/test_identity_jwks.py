from __future__ import annotations

import itertools
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from token_makers import EC_KEY, RSA_KEYS, document, entry

from stk_ml.errors import IdentityError
from stk_ml.identity.jwks import parse

GOOD = entry(RSA_KEYS[0], "good")


def test_keys_carry_their_one_algorithm() -> None:
    found = parse(document(GOOD, entry(EC_KEY, "curve")), "jwks.json").keys
    assert {name: key.algorithm for name, key in found.items()} == {"good": "RS256", "curve": "ES256"}


@pytest.mark.parametrize(
    "bad",
    [
        {**GOOD, "kid": ""},
        {**GOOD, "kid": 7},
        {name: value for name, value in GOOD.items() if name != "kid"},
        {**GOOD, "use": "enc"},
        {**GOOD, "alg": "RS512"},
        {**GOOD, "alg": "HS256"},
        {**GOOD, "alg": "none"},
        {**GOOD, "n": "!"},
        {**GOOD, "n": 5},
        {**GOOD, "d": "AQAB"},
        {**GOOD, "kty": "EC"},
        {"kty": "oct", "kid": "x", "k": "c2VjcmV0"},
        {"kty": "oct", "kid": "x", "k": "c2VjcmV0", "alg": "RS256"},
        {"kid": "x"},
        entry(rsa.generate_private_key(public_exponent=65537, key_size=1024), "short"),
        entry(ec.generate_private_key(ec.SECP384R1()), "large curve"),
        "text",
        None,
        [],
    ],
    ids=itertools.count(),  # the keys are new in every process, and xdist wants the same names in all
)
def test_a_key_that_cannot_be_used_is_left_out_and_the_others_stay(bad: dict[str, object]) -> None:
    assert list(parse(json.dumps({"keys": [bad, GOOD]}).encode(), "jwks.json").keys) == ["good"]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"keys": null}', b"\xff", b"5", b'{"keys": 5}'])
def test_what_is_no_key_set_is_told_with_its_place(data: bytes) -> None:
    with pytest.raises(IdentityError, match=r"jwks\.json holds no JSON Web Key Set") as caught:
        parse(data, "jwks.json")
    assert (caught.value.status, caught.value.reason) == (503, "keys")


VALUES = st.none() | st.integers() | st.text() | st.sampled_from(["RSA", "EC", "oct", "OKP", "sig", "AQAB", "P-256"])


@given(st.lists(st.dictionaries(st.sampled_from(["kty", "kid", "use", "alg", "n", "e", "x", "y", "crv"]), VALUES)))
def test_any_entries_are_taken_or_left_out(entries: list[dict[str, object]]) -> None:
    assert set(parse(json.dumps({"keys": [*entries, GOOD]}).encode(), "x").keys) >= {"good"}
