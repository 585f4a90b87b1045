from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from token_makers import (
    AUDIENCE,
    EC_KEY,
    ISSUER,
    NOW,
    RSA_KEYS,
    claims,
    entry,
    forged,
    part,
    public_pem,
    publish,
    token,
)

from stk_ml.errors import IdentityError
from stk_ml.identity.jwt import JwtVerifier
from stk_ml.identity.key_sources import JwksFile
from stk_ml.identity.protocol import Caller

TENANT, OTHER = "11111111-2222-3333-4444-555555555555", "99999999-2222-3333-4444-555555555555"


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    file = tmp_path / "jwks.json"
    publish(file, entry(RSA_KEYS[0], "one"), entry(EC_KEY, "curve", alg="ES256"))
    return file


@pytest.fixture
def verifier(jwks: Path) -> JwtVerifier:
    return JwtVerifier(JwksFile(jwks), ISSUER, AUDIENCE)


def refusal(verifier: JwtVerifier, text: str, now: float = NOW) -> tuple[int, str]:
    """Status and reason with which a token is refused; its text shows nowhere."""
    with pytest.raises(IdentityError) as caught:
        verifier.verify(text, now=now)
    shown = f"{caught.value} {caught.value.hint} {caught.value!r}"
    shown += "".join(traceback.format_exception(caught.value)[-1:])
    assert len(text) < 8 or text not in shown
    assert caught.value.__cause__ is None
    return caught.value.status, caught.value.reason


def test_a_good_token_names_its_subject(verifier: JwtVerifier) -> None:
    assert verifier.verify(token(), now=NOW) == Caller("ada", "token")
    assert verifier.verify(token(EC_KEY, "curve", "ES256", sub="bob"), now=NOW) == Caller("bob", "token")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"exp": NOW - 61}, (401, "expired")),
        ({"exp": None}, (401, "token")),
        ({"exp": str(int(NOW + 3600))}, (401, "token")),
        ({"exp": True}, (401, "token")),
        ({"exp": float("inf")}, (401, "token")),
        ({"exp": float("nan")}, (401, "token")),
        ({"exp": 10**400}, (401, "token")),
        ({"nbf": NOW + 61}, (401, "early")),
        ({"nbf": [NOW]}, (401, "token")),
        ({"iss": ISSUER + "/"}, (401, "issuer")),
        ({"iss": None}, (401, "issuer")),
        ({"iss": "https://issuer.example/V2.0"}, (401, "issuer")),
        ({"aud": "api://other"}, (401, "audience")),
        ({"aud": None}, (401, "audience")),
        ({"aud": []}, (401, "audience")),
        ({"aud": AUDIENCE + "x"}, (401, "audience")),
        ({"sub": None}, (401, "token")),
        ({"sub": ""}, (401, "token")),
        ({"scp": None}, (403, "scope")),
        ({"scp": "scores read"}, (403, "scope")),
        ({"scp": ["score"]}, (403, "scope")),
        ({"scp": None, "roles": "score"}, (403, "scope")),
        ({"scp": None, "roles": ["scorer", 5]}, (403, "scope")),
        ({"scp": None, "exp": NOW - 3600}, (401, "expired")),
    ],
    ids=str,
)
def test_a_token_is_refused_with_the_reason(
    verifier: JwtVerifier, changes: dict[str, Any], expected: tuple[int, str]
) -> None:
    assert refusal(verifier, _signed(changes)) == expected
    assert refusal(verifier, _signed(changes)) == expected, "a refused token is never remembered as good"


@pytest.mark.parametrize(
    "changes",
    [{"exp": NOW - 59}, {"nbf": NOW + 59}, {"nbf": None}, {"aud": ["api://x", AUDIENCE]}, {"scp": "score"},
     {"scp": None, "roles": ["admin", "score"]}, {"scp": "read", "roles": ["score"]}, {"exp": int(NOW) + 5}],
    ids=str,
)  # fmt: skip
def test_a_token_within_the_leeway_or_with_a_role_holds(verifier: JwtVerifier, changes: dict[str, Any]) -> None:
    assert verifier.verify(token(**changes), now=NOW).name == "ada"


def test_a_shared_secret_or_no_signature_is_never_accepted(verifier: JwtVerifier, jwks: Path) -> None:
    confused = [forged({"alg": "HS256", "typ": "JWT", "kid": "one"}, secret) for secret in (
        public_pem(RSA_KEYS[0]), public_pem(RSA_KEYS[0]).strip(), jwks.read_bytes(), b"", b"one")]  # fmt: skip
    unsigned = [forged({"alg": alg, "kid": "one"}, None) for alg in ("none", "None", "NONE", "", None, 0, ["RS256"])]
    assert {refusal(verifier, text) for text in (*confused, *unsigned)} == {(401, "algorithm")}
    assert refusal(verifier, forged({"kid": "one"}, None)) == (401, "algorithm")


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_another_algorithm_of_the_same_key_is_refused(verifier: JwtVerifier, algorithm: str) -> None:
    assert refusal(verifier, token(algorithm=algorithm)) == (401, "algorithm")


def test_the_algorithm_must_be_that_of_the_key(verifier: JwtVerifier) -> None:
    assert refusal(verifier, token(RSA_KEYS[0], "curve")) == (401, "algorithm")
    assert refusal(verifier, token(EC_KEY, "one", "ES256")) == (401, "algorithm")


def test_a_key_that_the_token_brings_along_counts_for_nothing(verifier: JwtVerifier) -> None:
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    brought = {"jwk": entry(own, "one"), "jku": "http://127.0.0.1:1/jwks.json", "x5u": "http://127.0.0.1:1/"}
    text = jwt.encode({"sub": "eve"}, own, algorithm="RS256", headers={"kid": "one", **brought})
    assert refusal(verifier, text) == (401, "signature")
    assert refusal(verifier, token(RSA_KEYS[1])) == (401, "signature")


def test_a_changed_claim_breaks_the_signature(verifier: JwtVerifier) -> None:
    header, _, signature = token().split(".")
    changed = part({"iss": ISSUER, "aud": AUDIENCE, "sub": "eve", "scp": "score", "exp": NOW + 60}).decode()
    assert refusal(verifier, f"{header}.{changed}.{signature}") == (401, "signature")


def test_critical_extensions_that_nobody_knows_are_refused(verifier: JwtVerifier) -> None:
    headers = {"kid": "one", "crit": ["https://example.com/must"], "https://example.com/must": True}
    text = jwt.encode({"sub": "ada"}, RSA_KEYS[0], algorithm="RS256", headers=headers)
    assert refusal(verifier, text) == (401, "token")


@pytest.mark.parametrize("kid", [None, "two", "One", ""])
def test_a_token_of_no_known_key_is_refused(verifier: JwtVerifier, kid: str | None) -> None:
    assert refusal(verifier, token(kid=kid)) == (401, "kid")


@pytest.mark.parametrize("text", ["", "a", "a.b.c", "..", "\x00.\x00.\x00", "é.é.é", "\ud800.a.b", "x" * 20_000])
def test_what_is_no_jwt_is_refused(verifier: JwtVerifier, text: str) -> None:
    assert refusal(verifier, text) == (401, "token")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.one_of(
        st.text(),
        st.lists(st.binary().map(lambda data: part(data).decode()), min_size=3, max_size=3).map(".".join),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["alg", "kid", "crit", "b64", "x"]), inner),
            max_leaves=8,
        ).map(lambda header: part(header).decode() + ".e30.AAAA"),
    )
)
def test_any_text_is_refused_and_breaks_nothing(verifier: JwtVerifier, text: str) -> None:
    assert refusal(verifier, text)[0] == 401


def test_a_remembered_token_ends_when_it_says(verifier: JwtVerifier) -> None:
    text = token(nbf=NOW, exp=NOW + 100)
    assert verifier.verify(text, now=NOW).name == "ada"
    assert verifier.verify(text, now=NOW + 159.9).name == "ada"
    assert refusal(verifier, text, NOW + 160) == (401, "expired")
    assert refusal(verifier, text, NOW - 61) == (401, "early"), "a clock that was set back counts too"


def test_a_token_without_the_scope_stays_refused_once_its_time_comes(verifier: JwtVerifier) -> None:
    text = token(nbf=NOW + 600, scp="read")
    assert refusal(verifier, text) == (401, "early")
    assert refusal(verifier, text, NOW + 601) == (403, "scope")


def test_memory_is_bounded_by_the_number_of_tokens(jwks: Path) -> None:
    verifier = JwtVerifier(JwksFile(jwks), ISSUER, AUDIENCE, remember=3)
    texts = [token(jti=str(n)) for n in range(10)]
    assert {verifier.verify(text, now=NOW).name for text in texts + texts} == {"ada"}
    assert len(verifier._held) == 3


def test_a_new_key_counts_at_once_and_a_withdrawn_one_no_more(verifier: JwtVerifier, jwks: Path) -> None:
    old, new = token(), token(RSA_KEYS[1], "two")
    assert verifier.verify(old, now=NOW).name == "ada"
    publish(jwks, entry(RSA_KEYS[1], "two"), entry(RSA_KEYS[0], "one"))
    assert [verifier.verify(text, now=NOW + 0.1).name for text in (new, old)] == ["ada", "ada"], (
        "both while both are out"
    )
    publish(jwks, entry(RSA_KEYS[1], "two"))
    assert verifier.verify(new, now=NOW + 1.2).name == "ada"
    assert refusal(verifier, old, NOW + 1.3) == (401, "kid"), "its token was remembered before"


def test_a_key_replaced_under_its_id_ends_the_remembered_tokens(verifier: JwtVerifier, jwks: Path) -> None:
    old = token()
    assert verifier.verify(old, now=NOW).name == "ada"
    publish(jwks, entry(RSA_KEYS[1], "one"))
    assert refusal(verifier, old, NOW + 2) == (401, "signature")


class TestManyTenants:
    """An issuer with {tenantid}, as Entra ID documents it for apps of several tenants."""

    @pytest.fixture
    def verifier(self, tmp_path: Path) -> JwtVerifier:
        login = "https://login.microsoftonline.com"
        publish(
            tmp_path / "keys",
            entry(RSA_KEYS[0], "all", issuer=f"{login}/{{tenantid}}/v2.0"),
            entry(RSA_KEYS[1], "one", issuer=f"{login}/{TENANT}/v2.0"),
        )
        return JwtVerifier(JwksFile(tmp_path / "keys"), f"{login}/{{tenantid}}/v2.0", AUDIENCE)

    @staticmethod
    def of(tenant: Any, key: Any = RSA_KEYS[0], kid: str = "all", issued: str = "") -> str:
        return token(key, kid, tid=tenant, iss=f"https://login.microsoftonline.com/{issued or tenant}/v2.0")

    def test_the_issuer_is_that_of_the_tokens_own_tenant(self, verifier: JwtVerifier) -> None:
        assert verifier.verify(self.of(TENANT), now=NOW).name == "ada"
        assert verifier.verify(self.of(OTHER), now=NOW).name == "ada"
        assert refusal(verifier, self.of(TENANT, issued=OTHER)) == (401, "issuer")

    @pytest.mark.parametrize("tenant", [None, "", "common", "../evil", f"{TENANT}/x", "{tenantid}", 5])
    def test_a_tenant_is_an_id(self, verifier: JwtVerifier, tenant: Any) -> None:
        assert refusal(verifier, self.of(tenant)) == (401, "issuer")

    def test_a_key_of_one_tenant_signs_for_it_alone(self, verifier: JwtVerifier) -> None:
        assert verifier.verify(self.of(TENANT, RSA_KEYS[1], "one"), now=NOW).name == "ada"
        assert refusal(verifier, self.of(OTHER, RSA_KEYS[1], "one")) == (401, "issuer")


def test_tokens_of_entra_id_v1_are_a_matter_of_settings(tmp_path: Path) -> None:
    publish(tmp_path / "keys", entry(RSA_KEYS[0], "one", issuer=f"https://login.microsoftonline.com/{TENANT}/v2.0"))
    verifier = JwtVerifier(JwksFile(tmp_path / "keys"), f"https://sts.windows.net/{TENANT}/", AUDIENCE)
    assert verifier.verify(token(iss=f"https://sts.windows.net/{TENANT}/"), now=NOW).name == "ada"


def _signed(changes: dict[str, Any]) -> str:
    """Like :func:`token`, also for claims that PyJWT would not encode."""
    raw = part({"alg": "RS256", "kid": "one"}) + b"." + part(claims(**changes))
    signature = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256).sign(raw, RSA_KEYS[0])
    return (raw + b"." + part(signature)).decode()
