"""What every decoding gives: one matrix, and what was wrong or let pass in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stk_ml.errors import RowProblem

#: Code of a category that training has not seen.
UNSEEN = -1.0
#: Problems that are told; the others are counted.
MOST_PROBLEMS = 100
#: Longest id of a row, in characters.
MOST_ID = 128


@dataclass(slots=True)
class Rows:
    """Decoded rows.

    Attributes:
        matrix: (rows, features), C-ordered, in the model's column order. NaN is missing; a category is its code, and
            -1.0 one that training has not seen; a boolean is 0 or 1.
        ids: one per row as the caller gave them, or none.
        problems: the first rejected values by row and column; row -1 means all rows.
        bad: rows with a rejected value, which are not to be scored.
        counted: (what, column) to the number of values let pass by policy: ``unknown_column``, ``missing_value``,
            ``wrong_type``, ``out_of_range``, ``unseen_category``.
        total_problems: rejected values in all.
    """

    matrix: npt.NDArray[np.float64]
    ids: Sequence[str] = ()
    problems: tuple[RowProblem, ...] = ()
    bad: frozenset[int] = frozenset()
    counted: Mapping[tuple[str, str], int] = field(default_factory=dict)
    total_problems: int = 0
