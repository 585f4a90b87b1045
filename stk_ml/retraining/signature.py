"""HMAC-SHA256 signatures of requests, in the form that Stripe made common: ``x-stk-signature: t=UNIX,v1=HEX``.

What is signed is ``UNIX.`` and the body; of a request without a body its path. Several ``v1`` may stand there, so that
a sender can go over to a new secret.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Hashable, Sequence
from hashlib import sha256

from stk_ml.errors import IdentityError
from stk_ml.identity.protocol import Caller
from stk_ml.vault.protocol import SecretStore
from stk_ml.vault.references import resolve

HEADER = "x-stk-signature"
#: Seconds by which the time of a signature may differ from ours.
WINDOW = 300.0
_SIGNATURES = 4
_LONGEST = 1024
_REFRESH = 1.0


def sign(secret: bytes, body: bytes, *, now: float) -> str:
    """The value of the header.

    Args:
        secret: shared with the receiver.
        body: as it will be sent, byte for byte; the path when there is none.
        now: unix seconds.

    Example:
        >>> sign(b"s3cret", b"{}", now=1_000_000.5)[:22]
        't=1000000,v1=c3aa01257'
    """
    moment = int(now)
    return f"t={moment},v1={_digest(secret, moment, body)}"


def verify(secrets: Sequence[bytes], header: str, body: bytes, *, now: float, window: float = WINDOW) -> Caller:
    """Who signed: whoever knows one of the secrets.

    Args:
        secrets: each is tried, in constant time.
        header: value of the header.
        body: as it came; the path when there is none.
        now: unix seconds.
        window: seconds by which the signature's time may differ from ``now``.

    Raises:
        IdentityError: 401 with the reason ``signature`` (malformed or wrong) or ``expired`` (outside the window).

    Example:
        >>> verify([b"s3cret"], sign(b"s3cret", b"{}", now=100), b"{}", now=101)
        Caller(name='signature', kind='hmac')
        >>> verify([b"s3cret"], sign(b"s3cret", b"{}", now=100), b"[]", now=101)
        Traceback (most recent call last):
        stk_ml.errors.IdentityError: the signature is wrong
    """
    moment, given = _parts(header)
    good = False
    for secret in secrets:
        expected = _digest(secret, moment, body).encode()
        for signature in given:
            good |= hmac.compare_digest(expected, signature.encode())
    if not good:
        raise IdentityError("the signature is wrong", reason="signature", hint="sign the body byte for byte as sent")
    if abs(now - moment) > window:
        hint = "sign each request anew, and compare the clocks"
        raise IdentityError(f"the signature's time is more than {window:g} s away", reason="expired", hint=hint)
    return Caller("signature", "hmac")


class Secrets:
    """The secrets that signatures count by, as the vault holds them now: it is asked at most once in a second.

    Args:
        references: ``vault:NAME`` each, so that an old and a new secret may count together.
        store: the vault.
        clock: monotonic seconds.

    Raises:
        SecretNotFoundError, VaultError, SettingError: see :func:`stk_ml.vault.references.resolve`.
    """

    def __init__(self, references: Sequence[str], store: SecretStore, clock: Callable[[], float]) -> None:
        self._references, self._store, self._clock = tuple(references), store, clock
        self._stamp: Hashable = None
        self._due = float("-inf")
        self._values: tuple[bytes, ...] = ()
        self()

    def __repr__(self) -> str:
        return f"Secrets({self._references!r})"

    def __call__(self) -> tuple[bytes, ...]:
        """The secrets."""
        now = self._clock()
        if now >= self._due:
            stamp = self._store.modified()
            if stamp != self._stamp:
                self._values = tuple(resolve(each, self._store).encode() for each in self._references)
                self._stamp = stamp
            self._due = now + _REFRESH
        return self._values


def _parts(header: str) -> tuple[int, list[str]]:
    moments, given = [], []
    for part in header[:_LONGEST].split(","):
        name, _, value = part.strip().partition("=")
        if name == "t":
            moments.append(value)
        elif name == "v1":
            given.append(value)
    if len(moments) != 1 or not (moments[0].isascii() and moments[0].isdigit() and len(moments[0]) <= 12) or not given:
        hint = f"{HEADER}: t=UNIX-SECONDS,v1=HEX-OF-HMAC-SHA256"
        raise IdentityError("the signature is malformed", reason="signature", hint=hint)
    return int(moments[0]), given[:_SIGNATURES]


def _digest(secret: bytes, moment: int, body: bytes) -> str:
    return hmac.new(secret, b"%d." % moment + body, sha256).hexdigest()
