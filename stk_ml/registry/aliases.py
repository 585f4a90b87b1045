"""Names for versions that can move: champion, challenger.

MLflow's own aliases where the store has them; on Azure ML they are tags of the registered model. Either way moving
one is a single write, so a reader sees the old version or the new one.
"""

from __future__ import annotations

from typing import Protocol

from stk_ml.registry import tags
from stk_ml.registry.store import Store

_KEY = f"{tags.PREFIX}alias."


class Aliases(Protocol):
    """Where a store keeps aliases."""

    def read(self, name: str) -> dict[str, int]:
        """Version by alias. Raises UnknownNameError when there is no such model."""

    def move(self, name: str, alias: str, version: int) -> None:
        """Points ``alias`` at ``version``, wherever it pointed before."""

    def drop(self, name: str, alias: str) -> None:
        """Removes ``alias``."""


class StoreAliases:
    """Aliases as MLflow keeps them."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, name: str) -> dict[str, int]:
        """See :class:`Aliases`."""
        return {alias: int(version) for alias, version in self._store.client.get_registered_model(name).aliases.items()}

    def move(self, name: str, alias: str, version: int) -> None:
        """See :class:`Aliases`."""
        self._store.client.set_registered_model_alias(name, alias, str(version))

    def drop(self, name: str, alias: str) -> None:
        """See :class:`Aliases`."""
        self._store.client.delete_registered_model_alias(name, alias)


class TagAliases:
    """Aliases as tags of the registered model, ``stk_ml.alias.champion = 3``; an empty tag is no alias."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read(self, name: str) -> dict[str, int]:
        """See :class:`Aliases`."""
        found = self._store.client.get_registered_model(name).tags
        return {tag.removeprefix(_KEY): int(v) for tag, v in found.items() if tag.startswith(_KEY) and v.isdigit()}

    def move(self, name: str, alias: str, version: int) -> None:
        """See :class:`Aliases`."""
        self._store.client.set_registered_model_tag(name, f"{_KEY}{alias}", str(version))

    def drop(self, name: str, alias: str) -> None:
        """See :class:`Aliases`."""
        self._store.client.set_registered_model_tag(name, f"{_KEY}{alias}", "")


def aliases(store: Store) -> Aliases:
    """What fits the store: tags on Azure ML, whose servers are not known to have aliases; MLflow's own elsewhere."""
    return TagAliases(store) if store.uri.startswith("azureml:") else StoreAliases(store)
