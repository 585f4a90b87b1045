"""Processes that look at windows, each with peers of its own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.detecting.tools import Peer
from benchmarks.detecting.worlds import World

#: Like ``map`` over one argument.
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


class Crew:
    """Peers, and the file of the reference that they were shown last."""

    def __init__(self, names: Collection[str] = ()) -> None:
        self._temporary = tempfile.TemporaryDirectory()
        self._peers = [Peer(name, Path(self._temporary.name)) for name in names]
        self._name, self._file = "", Path()

    def __call__(self, world: World, window: pa.Table, *, labelled: bool = False) -> set[str]:
        """Names of the detectors that alarm."""
        if self._peers and self._name != world.name:
            if self._name:
                self._file.unlink()
            self._name, self._file = world.name, Path(self._temporary.name) / f"{world.name}.parquet"
            pq.write_table(world.reference, self._file)
        return {name for peer in self._peers for name in peer(self._file, window, labelled)}

    def close(self) -> None:
        """Ends their processes."""
        for peer in self._peers:
            peer.close()
        self._temporary.cleanup()


_here: list[Crew] = []


def peers(world: World, window: pa.Table, *, labelled: bool = False) -> set[str]:
    """The answer of this process's crew; peers are started with the first question."""
    return _here[0](world, window, labelled=labelled)


@contextmanager
def crews(jobs: int, names: Collection[str]) -> Iterator[Map]:
    """A map over that many processes, in order; over this one for one job."""
    if jobs > 1:
        with ProcessPoolExecutor(jobs, get_context("spawn"), _join, (names,)) as pool:
            yield pool.map
        return
    _here[:] = [Crew(names)]
    try:
        yield map
    finally:
        _here.pop().close()


def _join(names: Collection[str]) -> None:
    os.nice(5)
    _here[:] = [Crew(names)]
