"""Secrets by name."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Protocol


class SecretStore(Protocol):
    """A vault. Values are never logged and never part of a ``repr``.

    Names are those of Key Vault: 1 to 127 letters, digits and dashes.
    """

    def get(self, name: str) -> str:
        """The current value; SecretNotFoundError when there is none, VaultError when the vault fails."""

    def set(self, name: str, value: str) -> None:
        """Stores a new current value."""

    def add(self, name: str, value: str) -> bool:
        """Stores a value unless the secret has one; whether it was stored."""

    def delete(self, name: str) -> None:
        """Removes a secret; nothing happens when there is none."""

    def names(self) -> list[str]:
        """Names of all secrets, sorted."""

    def modified(self) -> Hashable:
        """A stamp that differs once a secret was changed, cheap enough to ask each second."""
