"""Histograms of many windows and workers added up: what monitoring reads of a day does not grow with its windows.

Of the ``stk.histogram`` rows of a quarter of an hour those become one that are alike in everything but counts, worker
and window; it bears the time of the newest. A stretch that begins and ends with a quarter of an hour holds the same
counts before and after.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from stk_ml.telemetry.packing import json

#: What is added up.
NAME = "stk.histogram"
#: Microseconds of the log that become one row per column.
QUARTER = 900_000_000

_BESIDE = ("below", "above", "missing", "other", "unseen")
#: Where the rows of one sum may differ; ``rows`` is the sum of the counts.
_VARIED = ("counts", *_BESIDE, "rows", "worker", "window_start", "window_end")
_COUNTS = re.compile(r"\[(\d{1,18}(,\d{1,18})*)?\]")
_NUMBER = re.compile(r"\d{1,18}")
_decode = msgspec.json.Decoder(dict[str, str]).decode


@dataclass
class _Sum:
    """Rows of one kind: the first of them, their cells, the newest time and the stretch of their windows."""

    first: dict[str, Any]
    about: dict[str, str]
    cells: npt.NDArray[np.int64]
    newest: int
    start: str
    end: str
    workers: set[str] = field(default_factory=set)


class HistogramSums:
    """Adds up histograms; takes memory per column and quarter of an hour, however many rows it is given.

    Example:
        >>> about = {"feature": "km", **dict.fromkeys(_BESIDE, "1")}
        >>> sums = HistogramSums()
        >>> for time, counts in ((1, "[1,2]"), (2, "[3,4]"), (QUARTER + 1, "[5,6]")):
        ...     assert sums.add({"TimeGenerated": time, "Properties": json({**about, "counts": counts})})
        >>> [(row["TimeGenerated"], _decode(row["Properties"])["counts"]) for row in sums.rows()]
        [(2, '[4,6]'), (900000001, '[5,6]')]
    """

    def __init__(self) -> None:
        self._sums: dict[tuple[Any, ...], _Sum] = {}

    def add(self, row: dict[str, Any]) -> bool:
        """Takes one row of AppEvents, TimeGenerated in unix microseconds; False when it is no histogram of ours."""
        found = _read(row["Properties"])
        if found is None:
            return False
        about, cells = found
        time, same = row["TimeGenerated"], {name: text for name, text in about.items() if name not in _VARIED}
        others = (row[name] for name in row if name not in ("TimeGenerated", "Properties", "AppRoleInstance"))
        key = (-(-time // QUARTER), cells.size, *sorted(same.items()), *others)
        start, end, worker = (about.get(name, "") for name in ("window_start", "window_end", "worker"))
        known = self._sums.get(key)
        if known is None:
            self._sums[key] = _Sum(row, same, cells, time, start, end, {worker})
            return True
        known.cells += cells
        known.workers.add(worker)
        known.newest = max(known.newest, time)
        known.start, known.end = min(known.start, start), max(known.end, end)
        return True

    def rows(self) -> Iterator[dict[str, Any]]:
        """The sums, as rows of AppEvents by time; the worker of several is nobody."""
        for each in sorted(self._sums.values(), key=lambda each: each.newest):
            counts = each.cells.tolist()
            worker = each.workers.pop() if len(each.workers) == 1 else ""
            about = {
                **each.about,
                "worker": worker,
                "window_start": each.start,
                "window_end": each.end,
                "counts": json(counts[len(_BESIDE) :]),
                **{name: str(count) for name, count in zip(_BESIDE, counts, strict=False)},
                "rows": str(sum(counts)),
            }
            changed = {"TimeGenerated": each.newest, "AppRoleInstance": worker, "Properties": json(about)}
            yield {**each.first, **changed}


def _read(properties: str) -> tuple[dict[str, str], npt.NDArray[np.int64]] | None:
    """What a histogram says and its cells, those beside the bins first; None when it is not written as ours are."""
    try:
        about = _decode(properties)
    except msgspec.DecodeError:
        return None
    beside, counts = [about.get(name, "") for name in _BESIDE], about.get("counts", "")
    if not _COUNTS.fullmatch(counts) or not all(map(_NUMBER.fullmatch, beside)):
        return None
    bins = counts[1:-1].split(",") if counts != "[]" else []
    return about, np.array([*beside, *bins], dtype=np.int64)
