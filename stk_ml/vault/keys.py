"""The two API keys of an endpoint, so that one can be replaced while callers use the other.

Example:
    >>> import tempfile
    >>> from stk_ml.vault.local import FileSecretStore
    >>> folder = tempfile.TemporaryDirectory()
    >>> store = FileSecretStore(f"{folder.name}/vault.json")
    >>> ensure(store, "flights")
    >>> [(name, len(value)) for name, value in read(store, "flights")]
    [('primary', 43), ('secondary', 43)]
    >>> new = regenerate(store, "flights", "secondary")
    >>> dict(read(store, "flights"))["secondary"] == new
    True
    >>> folder.cleanup()
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Literal, cast

from stk_ml.errors import SecretNotFoundError, UnknownNameError
from stk_ml.vault.protocol import SecretStore

Which = Literal["primary", "secondary"]
#: Both keys, in the order of :func:`read`.
KEYS: tuple[Which, ...] = ("primary", "secondary")
_BYTES = 32
_NAME = re.compile(r"endpoint-(.+)-(primary|secondary)")


def secret_name(endpoint: str, which: Which) -> str:
    """What the vault calls a key.

    Example:
        >>> secret_name("flights", "primary")
        'endpoint-flights-primary'
    """
    return f"endpoint-{endpoint}-{which}"


def by_endpoint(names: Iterable[str]) -> dict[str, tuple[Which, ...]]:
    """Which keys are set for which endpoint, from the names in a vault.

    Example:
        >>> by_endpoint(["endpoint-a-primary", "endpoint-a-secondary", "endpoint-b-primary", "other"])
        {'a': ('primary', 'secondary'), 'b': ('primary',)}
    """
    found: dict[str, tuple[Which, ...]] = {}
    for name in sorted(names):
        if match := _NAME.fullmatch(name):
            found[match[1]] = (*found.get(match[1], ()), cast(Which, match[2]))
    return found


def ensure(store: SecretStore, endpoint: str) -> None:
    """Creates the keys that are missing, 256 random bits each; those that are set stay as they are.

    With both there nothing is written: a container may have its keys mounted read-only.

    Raises:
        VaultError: the vault cannot be read, or cannot be written where a key is missing.
    """
    there = dict(read(store, endpoint))
    for which in (key for key in KEYS if key not in there):
        store.add(secret_name(endpoint, which), secrets.token_urlsafe(_BYTES))


def regenerate(store: SecretStore, endpoint: str, which: Which) -> str:
    """Replaces one key and returns the new one; the other stays valid.

    Raises:
        UnknownNameError: ``which`` is neither ``primary`` nor ``secondary``.
        SecretNotFoundError: the endpoint has no such key.
        VaultError: the vault cannot be read or written.
    """
    if which not in KEYS:
        raise UnknownNameError("key", which, KEYS)
    name = secret_name(endpoint, which)
    store.get(name)
    value = secrets.token_urlsafe(_BYTES)
    store.set(name, value)
    return value


def read(store: SecretStore, endpoint: str) -> tuple[tuple[str, str], ...]:
    """The keys that are set, as (name, value): ``primary`` before ``secondary``; empty when there are none.

    Raises:
        VaultError: the vault cannot be read.
    """
    found = []
    for which in KEYS:
        try:
            found.append((which, store.get(secret_name(endpoint, which))))
        except SecretNotFoundError:
            continue
    return tuple(found)


def remove(store: SecretStore, endpoint: str) -> None:
    """Removes both keys; nothing happens when there are none.

    Raises:
        VaultError: the vault cannot be written.
    """
    for which in KEYS:
        store.delete(secret_name(endpoint, which))
