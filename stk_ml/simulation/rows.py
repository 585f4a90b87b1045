"""The rows of a replay: what an app asks, at which times, and what becomes known of each row when."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from numpy.typing import NDArray

from stk_ml.errors import StorageError

if TYPE_CHECKING:
    import pyarrow as pa

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Rows:
    """Rows by the time of their request.

    Attributes:
        ids: (n,) of the requests.
        asked: (n,) when each is asked for, unix seconds, rising.
        known: (n,) when its label becomes known, NaN for never.
        labels: (n,) 0 and 1; NaN where there is none.
        features: (n,) what is asked with.
        scores: (n,) what was answered; NaN until then.
        versions: (n,) of the model that answered; 0 until then.
    """

    ids: list[str]
    asked: Floats
    known: Floats
    labels: Floats
    features: pa.Table
    scores: Floats = field(init=False)
    versions: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", np.full(len(self.ids), np.nan))
        object.__setattr__(self, "versions", np.zeros(len(self.ids), np.int64))

    @classmethod
    def read(cls, file: Path, *, entity: str, as_of: str, label_time: str, target: str) -> Rows:
        """Reads what :meth:`stk_ml.features.protocol.FeatureEngine.requests` has written.

        Raises:
            StorageError: the file cannot be read.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(file).sort_by(as_of)
        except (OSError, pa.ArrowInvalid) as error:
            raise StorageError(f"{file} cannot be read: {error}") from error
        return cls(
            table.column(entity).to_pylist(),
            _seconds(table, as_of),
            _seconds(table, label_time),
            table.column(target).cast(pa.float64()).to_numpy(),
            table.drop_columns([entity, as_of, label_time, target]),
        )

    def between(self, start: float, end: float) -> range:
        """Places of the rows that are asked for from start (inclusive) to end (exclusive)."""
        first, last = np.searchsorted(self.asked, [start, end])
        return range(int(first), int(last))

    def at_once(self, places: range) -> Iterator[tuple[float, range]]:
        """The rows by the time at which they are asked for."""
        times = self.asked[places.start : places.stop]
        starts = (np.flatnonzero(np.diff(times, prepend=-np.inf)) + places.start).tolist()
        for first, last in itertools.pairwise([*starts, places.stop]):
            yield float(self.asked[first]), range(first, last)

    def bodies(self, places: range) -> list[bytes]:
        """A JSON object per row."""
        encode = msgspec.json.Encoder().encode
        return [encode(row) for row in self.features.slice(places.start, len(places)).to_pylist()]

    def became_known(self, start: float, end: float) -> NDArray[np.intp]:
        """Places of the rows whose label became known after start and up to end."""
        return np.flatnonzero((self.known > start) & (self.known <= end))


def _seconds(table: pa.Table, name: str) -> Floats:
    import pyarrow as pa

    column = table.column(name).cast(pa.timestamp("us", "UTC")).cast(pa.int64()).cast(pa.float64())
    return np.asarray(column.to_numpy()) / 1e6
