"""Single rows as the hot path remembers them, turned into columns some thousands at a time."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias
from zlib import crc32

import numpy as np
import numpy.typing as npt

from stk_ml.telemetry.window import Buffer

#: Request id, row id, row (features,), score, route, seconds, unix time.
Scored: TypeAlias = tuple[str, str, Any, float, str, float, float]


class Requests(NamedTuple):
    """Requests that were answered well, as equally long columns; ``keys`` are the CRC-32 of their ids."""

    ids: Sequence[str]
    routes: Sequence[str]
    seconds: npt.NDArray[np.float64]
    times: Sequence[float]
    keys: Sequence[int]


def gathered(taken: Sequence[Scored], features: int) -> tuple[Buffer, Requests]:
    """The rows as a buffer, and their requests.

    Args:
        taken: at least one.
        features: of the model; 0 when rows are not kept.

    Example:
        >>> buffer, requests = gathered([("a", "", np.array([1.0, 2.0]), 0.5, "/score", 0.001, 10.0)], 2)
        >>> buffer.matrix.tolist(), list(buffer.scores), requests.ids, requests.seconds.tolist()
        ([[1.0, 2.0]], [0.5], ('a',), [0.001])
    """
    ids, row_ids, rows, scores, routes, seconds, times = zip(*taken, strict=True)
    buffer = Buffer(0, features)
    if features:
        matrix = np.frombuffer(b"".join(rows))
        buffer.matrix = matrix.reshape(len(taken), features)
    buffer.ids, buffer.row_ids = list(ids), list(row_ids)
    buffer.scores, buffer.times = array("d", scores), array("d", times)
    keys = [crc32(request_id.encode()) for request_id in ids]
    return buffer, Requests(ids, routes, np.array(seconds, dtype=np.float64), times, keys)
