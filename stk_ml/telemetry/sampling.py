"""Bounded samples that depend on the request ids alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

#: Keys are below it: crc32 of a request id.
KEYS = 2**32


class Sampler:
    """Keeps the items of the smallest keys: a share of all, and never more than ``most``.

    The keys being hashes, this is an even sample of all that was offered, whatever the order (bottom-k sampling: Cohen
    and Kaplan, "Summarizing data using bottom-k sketches", 2007).

    Args:
        share: of the items, 0 to 1.
        most: number of items.

    Attributes:
        limit: a key at or above it need not be offered.

    Example:
        >>> sampler = Sampler(1.0, 2)
        >>> for key in (7, 3, 9, 1):
        ...     sampler.offer(key, f"item {key}")
        >>> sampler.items()
        ['item 1', 'item 3']
    """

    def __init__(self, share: float, most: int) -> None:
        self.share, self.most = share, most
        self.limit = round(min(max(share, 0.0), 1.0) * KEYS) if most > 0 else 0
        self._kept: list[tuple[int, Any]] = []

    def offer(self, key: int, item: Any) -> None:
        """Takes an item, if its key is small enough."""
        if key < self.limit:
            self._kept.append((key, item))
            if len(self._kept) >= 2 * self.most:
                self._prune()

    def items(self) -> list[Any]:
        """What was kept, by rising key."""
        self._prune()
        return [item for _, item in self._kept]

    def _prune(self) -> None:
        self._kept.sort(key=_key)
        if len(self._kept) > self.most:
            self.limit = self._kept[self.most][0]
            del self._kept[self.most :]


def keys(first: int, rows: int, share: float) -> Iterator[tuple[int, int]]:
    """Keys of the rows of one request that fall into a share of all: systematic sampling, started by the request's key.

    Args:
        first: key of the request, which is that of its first row.
        rows: of the request.
        share: of all rows; about ``share * rows`` are given.

    Returns:
        Pairs of a row's place and its key, all keys below ``share * KEYS``.

    Example:
        >>> [place for place, _ in keys(0, 10, 0.25)]
        [0, 4, 8]
    """
    step = round(min(max(share, 0.0), 1.0) * KEYS)
    all_keys = (first + step * np.arange(rows, dtype=np.int64)) % KEYS
    places = np.flatnonzero(all_keys < step)
    yield from zip(places.tolist(), all_keys[places].tolist(), strict=True)


def _key(pair: tuple[int, Any]) -> int:
    return pair[0]


def smallest(share: float) -> str:
    """The regular expression that about this share of all MD5 digests match, always the smallest ones.

    Example:
        >>> smallest(0.5), smallest(0.02), smallest(1.0)
        ('^([01234567])', '^(0[01234]|05[0]|051[0123456789abcde])', '^')
    """
    if share >= 1:
        return "^"
    digits = f"{max(round(share * 16**4), 1):04x}"
    parts = [digits[:place] + f"[{'0123456789abcdef'[: int(digit, 16)]}]" for place, digit in enumerate(digits)]
    return f"^({'|'.join(part for part in parts if not part.endswith('[]'))})"
