"""Secrets by name."""

from __future__ import annotations

from typing import Protocol


class SecretStore(Protocol):
    """A vault. Values are never logged and never part of a ``repr``."""

    def get(self, name: str) -> str:
        """The current value; SecretNotFoundError when there is none, VaultError when the vault fails."""

    def set(self, name: str, value: str) -> None:
        """Stores a new current value."""

    def delete(self, name: str) -> None:
        """Removes a secret; nothing happens when there is none."""

    def names(self) -> list[str]:
        """Names of all secrets, sorted."""
