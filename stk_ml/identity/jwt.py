"""Checks bearer tokens: signed JWTs (RFC 7519, with the advice of RFC 8725) of Entra ID or of the laptop's dev issuer.

For Entra ID set, with the id of the tenant for TENANT::

    token_issuer = "https://login.microsoftonline.com/TENANT/v2.0"
    token_audience = "CLIENT-ID"          # v2 tokens name the app's client id, v1 tokens its URI (api://...)
    token_keys = "https://login.microsoftonline.com/TENANT/discovery/v2.0/keys"

An app whose manifest asks for v1 tokens gets the issuer ``https://sts.windows.net/TENANT/``. For several tenants the
issuer may hold ``{tenantid}``, with the keys of ``common``; a token of any tenant with the audience and the scope then
counts. People carry the scope in ``scp``, applications in ``roles``: declare ``score`` as both in the app registration.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, NamedTuple

from stk_ml.errors import IdentityError
from stk_ml.identity import jwks
from stk_ml.identity.jwks import ALGORITHMS, KeySet, SigningKey
from stk_ml.identity.key_sources import JwksFile, JwksUrl
from stk_ml.identity.protocol import Caller, KeySource

_LONGEST = 16_384
_TENANT = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_TEMPLATE = "{tenantid}"
_OPTIONS = dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat", "verify_iss", "verify_sub", "verify_jti"), False)
_LATEST = 1e12


class _Verified(NamedTuple):
    """A token that held: from when and until when it counts (unix seconds, leeway included), and whom it names."""

    begins: float
    ends: float
    caller: Caller


class JwtVerifier:
    """Checks tokens of one issuer for one audience.

    Tokens that held are remembered by their sha256, up to ``remember`` of them, so that a caller's next request costs
    a few microseconds; their times are looked at each time, and all are forgotten when the issuer's keys change.

    Args:
        keys: the issuer's public keys.
        issuer: what ``iss`` must be; ``{tenantid}`` in it stands for the token's own ``tid``.
        audience: what ``aud`` must be or hold.
        scope: what ``scp`` (words) or ``roles`` (a list) must hold.
        leeway: seconds by which clocks may differ.
        remember: how many tokens.

    Raises:
        MissingLibraryError: PyJWT is not installed.

    Example:
        >>> import tempfile
        >>> from stk_ml.identity.local import DevIssuer
        >>> folder = tempfile.TemporaryDirectory()
        >>> token = DevIssuer(folder.name).issue("ada", "api://stk-ml", ["score"], 60, now=1_000_000)
        >>> verifier = JwtVerifier(JwksFile(f"{folder.name}/jwks.json"), "stk-ml-dev", "api://stk-ml")
        >>> verifier.verify(token, now=1_000_030)
        Caller(name='ada', kind='token')
        >>> verifier.verify(token, now=1_000_121)
        Traceback (most recent call last):
        stk_ml.errors.IdentityError: the token has expired
        >>> folder.cleanup()
    """

    def __init__(
        self,
        keys: KeySource,
        issuer: str,
        audience: str,
        scope: str = "score",
        leeway: float = 60.0,
        *,
        remember: int = 4096,
    ) -> None:
        self._keys, self._issuer, self._audience, self._scope = keys, issuer, audience, scope
        self._leeway, self._remember = leeway, remember
        self._jwt = jwks.library()
        self._seen = jwks.EMPTY
        self._held: dict[bytes, _Verified] = {}

    def verify(self, token: str, *, now: float) -> Caller:
        """Who the token names.

        Args:
            token: three parts with two dots.
            now: unix seconds.

        Raises:
            IdentityError: 401 with the reason ``token`` (no JWT, or a claim is missing or malformed), ``algorithm``,
                ``kid`` (no such key), ``signature``, ``issuer``, ``audience``, ``early`` or ``expired``; 403 with
                ``scope``; 503 with ``keys`` when the issuer's keys cannot be had.
        """
        keys = self._keys.current(now)
        if keys is not self._seen:
            self._held.clear()
            self._seen = keys
        digest = sha256(token.encode("utf-8", "surrogatepass")).digest()
        held = self._held.get(digest)
        if held is not None:
            _refuse_untimely(held.begins, held.ends, now)
            return held.caller
        held = self._check(token, keys, now)
        if len(self._held) >= self._remember:
            del self._held[next(iter(self._held))]
        self._held[digest] = held
        return held.caller

    def _check(self, token: str, keys: KeySet, now: float) -> _Verified:
        key = self._key(token, keys, now)
        claims = self._claims(token, key)
        _check_issuer(claims, self._issuer, key.issuer)
        begins, ends = _times(claims, self._leeway)
        _refuse_untimely(begins, ends, now)
        if self._scope not in _scopes(claims):
            raise IdentityError(
                f"the token lacks the scope {self._scope!r}",
                status=403,
                reason="scope",
                hint="ask for it when the token is issued",
            )
        subject = claims.get("sub")
        if not isinstance(subject, str) or not subject:
            raise _refused("the token names no subject (sub)", "token")
        return _Verified(begins, ends, Caller(subject[:256], "token"))

    def _key(self, token: str, keys: KeySet, now: float) -> SigningKey:
        if len(token) > _LONGEST:
            raise _refused(f"the token is longer than {_LONGEST} characters", "token")
        try:
            header = self._jwt.get_unverified_header(token)
        except (self._jwt.PyJWTError, ValueError):
            raise _refused("this is no JWT", "token") from None
        algorithm, name = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise _refused(f"the token is not signed with {' or '.join(ALGORITHMS)}", "algorithm")
        key = keys.keys.get(name) if name else None
        if key is None and name:
            key = self._keys.reload(now).keys.get(name)
        if key is None:
            raise _refused("the token is signed with a key that the issuer does not publish", "kid")
        if key.algorithm != algorithm:
            raise _refused("the token's algorithm is not that of its key", "algorithm")
        return key

    def _claims(self, token: str, key: SigningKey) -> Mapping[str, Any]:
        jwt = self._jwt
        try:
            claims: dict[str, Any] = jwt.decode(
                token, key.key, algorithms=[key.algorithm], audience=self._audience, options=_OPTIONS
            )
        except (jwt.InvalidAudienceError, jwt.MissingRequiredClaimError):
            raise _refused("the token is for another audience", "audience") from None
        except jwt.InvalidSignatureError:
            raise _refused("the token's signature is wrong", "signature") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise _refused("this is no JWT", "token") from None
        return claims


def key_source(where: str, *, patience: float = 0.2) -> KeySource:
    """The keys of the setting ``token_keys``: a file, or a URL.

    Args:
        where: the setting.
        patience: seconds to wait for keys of a URL that have not come yet.

    Raises:
        SettingError: the URL is neither https nor of this machine.

    Example:
        >>> key_source("/project/.stk/identity/jwks.json").path.name
        'jwks.json'
    """
    return JwksUrl(where, patience=patience) if "://" in where else JwksFile(where)


def _check_issuer(claims: Mapping[str, Any], expected: str, of_key: str) -> None:
    if _TEMPLATE in expected:
        tenant = claims.get("tid")
        if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
            raise _refused("the token names no tenant (tid)", "issuer")
        expected = expected.replace(_TEMPLATE, tenant)
        # A key set that tenants share says which of its keys are only for one of them.
        if of_key and of_key.replace(_TEMPLATE, tenant) != expected:
            raise _refused("the token's key is another tenant's", "issuer")
    if claims.get("iss") != expected:
        raise _refused("the token is of another issuer", "issuer")


def _times(claims: Mapping[str, Any], leeway: float) -> tuple[float, float]:
    return _time(claims, "nbf", 0.0) - leeway, _time(claims, "exp", None) + leeway


def _time(claims: Mapping[str, Any], name: str, default: float | None) -> float:
    value = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LATEST < value < _LATEST:
        raise _refused(f"the token's time {name} is missing or no number", "token")
    return float(value)


def _refuse_untimely(begins: float, ends: float, now: float) -> None:
    if now >= ends:
        raise _refused("the token has expired", "expired", hint="get a new one")
    if now < begins:
        raise _refused("the token is not valid yet", "early", hint="compare the clocks")


def _scopes(claims: Mapping[str, Any]) -> list[Any]:
    words, roles = claims.get("scp", ""), claims.get("roles", [])
    return (words.split(" ") if isinstance(words, str) else []) + (roles if isinstance(roles, list) else [])


def _refused(message: str, reason: str, *, hint: str = "") -> IdentityError:
    return IdentityError(message, status=401, reason=reason, hint=hint)
