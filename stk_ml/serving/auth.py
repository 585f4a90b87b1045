"""Who calls, from the headers of a request: an API key of the endpoint, or a bearer token.

``x-api-key: KEY``, ``Authorization: Bearer KEY`` (as callers of Azure ML endpoints send it) or ``Authorization: Bearer
JWT``. An ``x-api-key`` counts before an ``Authorization``. Credentials never appear in errors, logs or a ``repr``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Sequence
from hmac import compare_digest

from stk_ml.errors import IdentityError, VaultError
from stk_ml.identity.protocol import Caller, TokenVerifier
from stk_ml.vault import keys as endpoint_keys
from stk_ml.vault.protocol import SecretStore

log = logging.getLogger(__name__)
#: Seconds after a look at the vault in which an unknown key is not worth another.
_SOON = 0.05
_HINT = "send the header x-api-key: KEY, or Authorization: Bearer KEY-or-token"


class KeyRing:
    """The API keys of an endpoint, as the vault holds them now.

    Once in ``refresh`` seconds, and for a key that it does not know, it asks the vault whether something changed, so a
    new key counts and an old one ends without a restart. While the vault fails, the last keys stay valid for ``grace``
    seconds; after that nobody can be known, which is answered with 503: the caller did nothing wrong and may try again.

    Args:
        store: the vault.
        endpoint: whose keys they are.
        refresh: seconds between two looks at the vault.
        grace: seconds that the last keys are kept while the vault fails.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        store: SecretStore,
        endpoint: str,
        refresh: float = 1.0,
        *,
        grace: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._endpoint, self._refresh, self._grace, self._clock = store, endpoint, refresh, grace, clock
        self._keys: tuple[tuple[bytes, Caller], ...] = ()
        self._stamp: Hashable = None
        self._due = self._good = float("-inf")
        self._trouble = False

    def __repr__(self) -> str:
        return f"KeyRing({self._endpoint!r}, {len(self._keys)} keys)"

    def caller(self, credential: bytes) -> Caller | None:
        """Whose key it is, or None; compares with every key in constant time.

        Raises:
            IdentityError: 503, the vault has failed for longer than ``grace``.
        """
        now = self._clock()
        if now >= self._due:
            self._look(now)
        found = self._find(credential)
        if found is None and now >= self._due - self._refresh + _SOON:
            self._look(now)  # it may be a key that is newer than the last look
            found = self._find(credential)
        return found

    def _find(self, credential: bytes) -> Caller | None:
        found = None
        for value, caller in self._keys:
            if compare_digest(value, credential):
                found = caller
        return found

    def _look(self, now: float) -> None:
        self._due = now + self._refresh
        try:
            stamp = self._store.modified()
            if stamp != self._stamp or self._trouble:
                self._take(endpoint_keys.read(self._store, self._endpoint))
                self._stamp = stamp
        except VaultError as error:
            self._fail(now, error)
        else:
            self._good, self._trouble = now, False

    def _take(self, found: tuple[tuple[str, str], ...]) -> None:
        self._keys = tuple((value.encode(), Caller(name, "key")) for name, value in found)
        if not found:
            log.warning("endpoint %s has no API keys in the vault", self._endpoint)

    def _fail(self, now: float, error: VaultError) -> None:
        if not self._trouble:
            log.warning("endpoint %s: the vault fails, its last keys count: %s", self._endpoint, error)
        self._trouble = True
        if now - self._good > self._grace:
            self._keys = ()
            self._due = float("-inf")  # each request is told so until the vault is back
            raise IdentityError(
                "API keys cannot be checked at the moment", status=503, reason="vault", hint="try again later"
            ) from None


class HeaderVerifier:
    """Knows callers by API key or bearer token.

    Args:
        keys: API keys; None when none are accepted.
        tokens: checks bearer tokens; None when none are accepted.
        clock: unix seconds, for the tokens' times.

    Example:
        >>> import tempfile
        >>> from stk_ml.vault.local import FileSecretStore
        >>> folder = tempfile.TemporaryDirectory()
        >>> store = FileSecretStore(f"{folder.name}/vault.json")
        >>> endpoint_keys.ensure(store, "flights")
        >>> (_, key), _ = endpoint_keys.read(store, "flights")
        >>> verifier = HeaderVerifier(KeyRing(store, "flights"), None)
        >>> verifier.verify([(b"x-api-key", key.encode())])
        Caller(name='primary', kind='key')
        >>> folder.cleanup()
    """

    def __init__(
        self, keys: KeyRing | None, tokens: TokenVerifier | None, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys, self._tokens, self._clock = keys, tokens, clock

    def verify(self, headers: Sequence[tuple[bytes, bytes]]) -> Caller:
        """The caller.

        Args:
            headers: lower-case names and values.

        Raises:
            IdentityError: 401 with reason ``missing``, ``ambiguous``, ``scheme``, ``key`` or one of the token's
                (:mod:`stk_ml.identity.jwt`); 403 for a token without the scope; 503 when the vault or the issuer's
                keys cannot be had.
        """
        key = bearer = None
        for name, value in headers:
            if name == b"x-api-key":
                if key is not None and key != value:
                    raise _refused("there are two different x-api-key headers", "ambiguous")
                key = value
            elif name == b"authorization":
                if bearer is not None and bearer != value:
                    raise _refused("there are two different Authorization headers", "ambiguous")
                bearer = value
        if key is not None:
            return self._by_key(key.strip())
        if bearer is not None:
            return self._by_bearer(_credential(bearer))
        raise _refused("no credential was sent", "missing")

    def _by_key(self, credential: bytes) -> Caller:
        if not credential:
            raise _refused("the x-api-key header is empty", "missing")
        caller = self._keys.caller(credential) if self._keys is not None else None
        if caller is None:
            raise _refused("this API key is not valid here", "key")
        return caller

    def _by_bearer(self, credential: bytes) -> Caller:
        if credential.count(b".") != 2:
            return self._by_key(credential)
        if self._tokens is None:
            raise _refused("bearer tokens are not accepted here", "token")
        return self._tokens.verify(credential.decode("latin-1"), now=self._clock())


class NoVerifier:
    """Lets everybody in, because the endpoint was opened on purpose.

    Example:
        >>> NoVerifier().verify([])
        Caller(name='anonymous', kind='none')
    """

    _CALLER = Caller("anonymous", "none")

    def verify(self, headers: Sequence[tuple[bytes, bytes]]) -> Caller:
        """The anonymous caller, whatever the headers."""
        return self._CALLER


def _credential(header: bytes) -> bytes:
    """What follows ``Bearer``, a scheme in any case (RFC 9110, 11.1)."""
    if header[:7].lower() != b"bearer ":
        raise _refused("the Authorization header is not of the scheme Bearer", "scheme")
    credential = header[7:].strip()
    if not credential:
        raise _refused("the Authorization header holds no credential", "missing")
    return credential


def _refused(message: str, reason: str) -> IdentityError:
    return IdentityError(message, status=401, reason=reason, hint=_HINT)
