"""Bearer tokens: who calls, as the issuer signed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from stk_ml.identity.jwks import KeySet


@dataclass(frozen=True)
class Caller:
    """Who calls: ``name`` (a key's name or the token's subject) and ``kind``."""

    name: str
    kind: str


class TokenVerifier(Protocol):
    """Checks bearer tokens."""

    def verify(self, token: str, *, now: float) -> Caller:
        """Who the token names; IdentityError (401, or 403 for a missing scope) when it does not hold."""


class KeySource(Protocol):
    """Where an issuer's public keys come from. The same object is returned until the keys have changed."""

    @property
    def trouble(self) -> str:
        """Why the newest keys could not be taken; empty when they were."""

    def current(self, now: float) -> KeySet:
        """The keys as they are known; IdentityError with status 503 when they cannot be had."""

    def reload(self, now: float) -> KeySet:
        """The same after another look, for a key that is not known; looks at most once in some seconds."""
