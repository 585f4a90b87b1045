"""Bearer tokens: who calls, as the issuer signed it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Caller:
    """Who calls: ``name`` (a key's name or the token's subject) and ``kind``."""

    name: str
    kind: str


class TokenVerifier(Protocol):
    """Checks bearer tokens."""

    def verify(self, token: str, *, now: float) -> Caller:
        """Who the token names; IdentityError (401, or 403 for a missing scope) when it does not hold."""
