"""An issuer's public keys: a JSON Web Key Set (RFC 7517), reduced to what may check a token here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from stk_ml.errors import IdentityError, MissingLibraryError

#: The signatures that count; ``none`` and those with a shared secret (HS256) never do (RFC 8725, 3.1 and 3.2).
ALGORITHMS = ("RS256", "ES256")
_RSA_BITS = 2048


@dataclass(frozen=True)
class SigningKey:
    """One public key.

    Attributes:
        algorithm: the one algorithm that it may be used with.
        issuer: whose tokens it may sign, as Entra ID says in shared key sets; empty for any.
        key: as PyJWT takes it.
    """

    algorithm: str
    issuer: str
    key: Any = field(repr=False)


@dataclass(frozen=True, eq=False)
class KeySet:
    """Public keys by key id (``kid``)."""

    keys: Mapping[str, SigningKey]


EMPTY = KeySet(MappingProxyType({}))


def parse(data: bytes, where: str) -> KeySet:
    """The usable keys of a JWKS document.

    Left out are keys without a ``kid``, of another use than ``sig`` or an algorithm outside :data:`ALGORITHMS`, private
    keys, and RSA keys under 2,048 bits.

    Args:
        data: the document.
        where: file or URL, for the message.

    Raises:
        IdentityError: 503, it is no JWKS document.
        MissingLibraryError: PyJWT is not installed.

    Example:
        >>> parse(b'{"keys": [{"kty": "oct", "kid": "1", "k": "c2VjcmV0"}]}', "jwks.json").keys
        mappingproxy({})
    """
    try:
        found = json.loads(data)["keys"]
        entries = [entry for entry in found if isinstance(entry, dict)]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise IdentityError(f"{where} holds no JSON Web Key Set", status=503, reason="keys") from None
    return KeySet(MappingProxyType(dict(_usable(entries))))


def library() -> Any:
    """PyJWT, with the cryptography that it needs.

    Raises:
        MissingLibraryError: one of them is not installed.
    """
    try:
        import cryptography  # noqa: F401
        import jwt
    except ImportError:
        raise MissingLibraryError("pyjwt", extra="serving", need="bearer tokens") from None
    return jwt


def _usable(entries: Iterable[dict[str, Any]]) -> Iterable[tuple[str, SigningKey]]:
    jwt = library()
    for entry in entries:
        if not _for_us(entry):
            continue
        try:
            key = jwt.PyJWK(entry)
        except (jwt.PyJWTError, ValueError, TypeError, KeyError, NotImplementedError):
            continue
        if key.algorithm_name in ALGORITHMS and (key.key_type == "EC" or key.key.key_size >= _RSA_BITS):
            yield entry["kid"], SigningKey(key.algorithm_name, str(entry.get("issuer", "")), key)


def _for_us(entry: Mapping[str, Any]) -> bool:
    """Whether it is a public key that signs, as far as the entry itself says; Entra ID's name no algorithm."""
    name, algorithm = entry.get("kid"), entry.get("alg", ALGORITHMS[0])
    signs = entry.get("use", "sig") == "sig" and algorithm in ALGORITHMS
    return signs and isinstance(name, str) and name != "" and "d" not in entry
