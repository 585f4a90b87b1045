"""LightGBM's text format as the bit masks that ``quickscorer.c`` scores with: what a value of a feature rules out.

Method: QuickScorer (Lucchese et al., SIGIR 2015). Leaves are numbered from left to right in 32-bit words; a node whose
test fails clears the leaves on its left. Beyond the paper, the masks of a feature are multiplied out when the model is
loaded: one row of masks per category, and one per ``stride`` thresholds of a number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stk_ml.errors import ArtifactError

Ints = npt.NDArray[np.int64]

#: Words per row of masks are padded to this; LANES in quickscorer.c.
LANES = 8
_WORD = 32
_FULL = np.uint32(0xFFFFFFFF)
#: Leaves per tree at most; from about 1,000 on LightGBM's walk is as fast.
_LEAVES = 512
#: Columns that are scored without LightGBM at most; they take room on the stack of a thread.
_COLUMNS = 4096
#: Bytes of masks: aimed at for the numbers of one model, and at most for all.
_AIM, _MOST = 1 << 20, 1 << 25
_CATEGORICAL, _DEFAULT_LEFT, _MISSING_SHIFT, _NONE, _NAN = 1, 2, 2, 0, 2
_IDENTITY = ("", "regression", "regression_l1", "huber", "fair", "quantile", "mape")
_EXPONENTIAL = ("poisson", "gamma", "tweedie")


@dataclass(frozen=True)
class FeatureMasks:
    """What the values of one column rule out; the fields of ``struct stk_feature``."""

    column: int
    categorical: bool
    count: int
    stride: int
    threshold: npt.NDArray[np.float64]
    word: npt.NDArray[np.int32]
    mask: npt.NDArray[np.uint32]
    rows: npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Masks:
    """A model; the fields of ``struct stk_model``.

    Attributes:
        columns: of the model's input.
        words: per row of masks, padding included.
        link: 0 none, 1 logistic, 2 exponential.
        slope: of the logistic link.
        features: those that any tree uses.
        first: (trees,) first word of each tree.
        leaf: 32 values per word.
    """

    columns: int
    words: int
    link: int
    slope: float
    features: tuple[FeatureMasks, ...]
    first: npt.NDArray[np.int32]
    leaf: npt.NDArray[np.float64]


class UnsupportedModelError(ArtifactError):
    """The model is left to LightGBM: linear leaves, several outputs, averaged trees, zero as missing, a rare link."""


def read(text: str) -> Masks:
    """The masks of a booster.

    Raises:
        UnsupportedModelError: it has what is left to LightGBM, or is too large.

    Example:
        >>> import lightgbm, numpy
        >>> x = numpy.random.default_rng(0).normal(size=(500, 3))
        >>> parameters = {"objective": "regression", "verbose": -1, "num_threads": 1, "num_leaves": 40}
        >>> masks = read(lightgbm.train(parameters, lightgbm.Dataset(x, x[:, 0]), 10).model_to_string())
        >>> len(masks.first), masks.columns, masks.link
        (10, 3, 0)
    """
    header, _, rest = text.partition("\nTree=")
    head = _fields(header)
    bodies = [_fields(body) for body in rest.partition("\nend of trees")[0].split("\nTree=")] if rest else []
    try:
        link, slope = _link(head, header.splitlines())
        if not bodies or any(body.get("is_linear", "0") != "0" for body in bodies):
            raise UnsupportedModelError("the model has linear leaves, or no tree")
        if any(int(body["num_leaves"]) > _LEAVES for body in bodies):
            raise UnsupportedModelError(f"a tree has more than {_LEAVES} leaves")
        return _masks(int(head["max_feature_idx"]) + 1, link, slope, _Trees(bodies))
    except (KeyError, ValueError, IndexError, OverflowError) as error:
        if isinstance(error, UnsupportedModelError):
            raise
        raise UnsupportedModelError(f"the model's text is not understood: {error!r}") from error


def _fields(part: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in part.splitlines() if "=" in line)


def _link(head: dict[str, str], lines: list[str]) -> tuple[int, float]:
    """The link function of the objective, and the slope of the logistic one."""
    if head["num_class"] != "1" or head["num_tree_per_iteration"] != "1" or "average_output" in lines:
        raise UnsupportedModelError("the model has several outputs or averages its trees")
    name, *options = head.get("objective", "").split() or [""]
    if name == "binary" and len(options) == 1 and options[0].startswith("sigmoid:"):
        return 1, float(options[0].removeprefix("sigmoid:"))
    if name == "cross_entropy" and not options:
        return 1, 1.0
    if name in _EXPONENTIAL:
        return 2, 1.0
    if name in _IDENTITY and "sqrt" not in options:
        return 0, 1.0
    raise UnsupportedModelError(f"the objective {head['objective']!r} is left to LightGBM")


class _Trees:
    """The nodes of all trees, end to end; children are places in it, or ``~`` the place of a leaf."""

    def __init__(self, bodies: list[dict[str, str]]) -> None:
        self.leaves = np.array([int(body["num_leaves"]) for body in bodies])
        self.values = _numbers(bodies, "leaf_value", float, self.leaves)
        split = [body for body in bodies if int(body["num_leaves"]) > 1]
        nodes = self.leaves - 1
        self.tree = np.repeat(np.arange(len(bodies)), nodes)
        self.roots = (np.cumsum(nodes) - nodes)[nodes > 0]
        inner, firsts = nodes[nodes > 0], (np.cumsum(self.leaves) - self.leaves)[nodes > 0]
        self.feature = _numbers(split, "split_feature", int, inner)
        self.threshold = _numbers(split, "threshold", float, inner)
        self.decision = _numbers(split, "decision_type", int, inner)
        self.left, self.right = (
            self._children(_numbers(split, key, int, inner), inner, firsts) for key in ("left_child", "right_child")
        )
        sets = np.array([int(body.get("num_cat", "0")) for body in split], dtype=np.int64)
        self._read_sets([body for body, count in zip(split, sets, strict=True) if count], sets, inner)

    def _children(self, child: Ints, inner: Ints, firsts: Ints) -> Ints:
        if (child >= np.repeat(inner, inner)).any() or (~child >= np.repeat(inner + 1, inner)).any():
            raise UnsupportedModelError("a child is outside its tree")
        return np.where(child >= 0, child + np.repeat(self.roots, inner), child - np.repeat(firsts, inner))

    def _read_sets(self, bodies: list[dict[str, str]], sets: Ints, inner: Ints) -> None:
        """Where the bits of each category node begin and end."""
        bounds = _numbers(bodies, "cat_boundaries", int, sets[sets > 0] + 1)
        ends = np.cumsum(sets[sets > 0] + 1)
        sizes = bounds[ends - 1] if len(ends) else np.empty(0, np.int64)
        self.bits = _numbers(bodies, "cat_threshold", int, sizes).astype(np.uint32)
        base = np.zeros((2, len(sets)), dtype=np.int64)  # of each tree: in bounds, and in bits
        base[:, sets > 0] = ends - sets[sets > 0] - 1, np.cumsum(sizes) - sizes
        self.categorical = (self.decision & _CATEGORICAL) > 0
        nodes = np.repeat(np.arange(len(inner)), inner)[self.categorical]
        places = self.threshold[self.categorical].astype(np.int64)
        if ((places < 0) | (places >= sets[nodes])).any():
            raise UnsupportedModelError("a category node names no set")
        self.set_start = bounds[base[0, nodes] + places] + base[1, nodes]
        self.set_end = bounds[base[0, nodes] + places + 1] + base[1, nodes]

    def spans(self) -> tuple[Ints, Ints, Ints]:
        """Per node the leaves on its left, as a range of their numbers in the tree; and the number of each leaf."""
        levels, seen = [self.roots], len(self.roots)
        while len(levels[-1]):
            children = np.concatenate([self.left[levels[-1]], self.right[levels[-1]]])
            levels.append(children[children >= 0])
            seen += len(levels[-1])
            if seen > len(self.tree):
                break
        if seen != len(self.tree) or len(np.unique(np.concatenate(levels))) != seen:
            raise UnsupportedModelError("the nodes are no trees")
        width, start, number = (np.zeros(n, dtype=np.int64) for n in (seen, seen, len(self.values)))

        def leaves_of(child: Ints) -> Ints:
            return np.where(child >= 0, width[np.maximum(child, 0)], 1)

        for level in reversed(levels):
            width[level] = leaves_of(self.left[level]) + leaves_of(self.right[level])
        for level in levels:
            middle = start[level] + leaves_of(self.left[level])
            for child, place in ((self.left[level], start[level]), (self.right[level], middle)):
                start[child[child >= 0]] = place[child >= 0]
                number[~child[child < 0]] = place[child < 0]
        return start, start + leaves_of(self.left), number


def _numbers(bodies: list[dict[str, str]], key: str, kind: type, counts: Ints) -> npt.NDArray[Any]:
    """One field of all trees, end to end; each must hold as many numbers as it says."""
    rows = [body[key].split() for body in bodies]
    if [len(row) for row in rows] != counts.tolist():
        raise UnsupportedModelError(f"the field {key} is cut short")
    values = np.array([kind(value) for row in rows for value in row], dtype=np.float64 if kind is float else np.int64)
    if np.isnan(values).any():
        raise UnsupportedModelError(f"the field {key} holds NaN")
    return values


def _masks(columns: int, link: int, slope: float, trees: _Trees) -> Masks:
    if not 0 < columns <= _COLUMNS or ((trees.feature < 0) | (trees.feature >= columns)).any():
        raise UnsupportedModelError(f"the model has more than {_COLUMNS} columns, or names one that is not there")
    per_tree = -(-trees.leaves // _WORD)
    first = np.cumsum(per_tree) - per_tree
    words = int(-(-per_tree.sum() // LANES) * LANES)
    low, high, number = trees.spans()
    leaf = np.zeros(words * _WORD)
    leaf[np.repeat(first, trees.leaves) * _WORD + number] = trees.values
    node, word, mask = _clear(low, high, first[trees.tree], int(per_tree.max()))
    numeric = int((~trees.categorical[node]).sum())
    stride = 16
    while numeric // stride * words * 4 > _AIM:
        stride *= 2
    features, room = [], _MOST
    for column in np.unique(trees.feature):
        own = trees.feature[node] == column
        kinds = trees.categorical[node[own]]
        if kinds.any() and not kinds.all():
            raise UnsupportedModelError(f"column {column} is a number and a category")
        make = _category if kinds.all() else _number
        features.append(make(int(column), trees, node[own], word[own], mask[own], words, stride, room))
        room -= features[-1].rows.nbytes
    return Masks(columns, words, link, slope, tuple(features), first.astype(np.int32), leaf)


def _clear(low: Ints, high: Ints, first: Ints, most: int) -> tuple[Ints, Ints, npt.NDArray[np.uint32]]:
    """What each node clears when its test fails: (node, word, mask), several where its left side spans words."""
    parts = []
    for place in range(most):
        a, b = np.clip(low - _WORD * place, 0, _WORD), np.clip(high - _WORD * place, 0, _WORD)
        node = np.flatnonzero(b > a)
        cleared = (np.int64(1) << b[node]) - (np.int64(1) << a[node])
        parts.append((node, first[node] + place, ~cleared.astype(np.uint32)))
    node, word, mask = (np.concatenate(column) for column in zip(*parts, strict=True))
    return node, word, mask


def _number(
    column: int, trees: _Trees, node: Ints, word: Ints, mask: Any, words: int, stride: int, room: int
) -> FeatureMasks:
    """Rows: NaN, then after 0, stride, 2 stride ... thresholds, in rising order."""
    missing = (trees.decision[node] >> _MISSING_SHIFT) & 3
    if not np.isin(missing, (_NONE, _NAN)).all():
        raise UnsupportedModelError("the model takes zero as missing")
    order = np.argsort(trees.threshold[node], kind="stable")
    node, word, mask, missing = node[order], word[order], mask[order], missing[order]
    threshold = trees.threshold[node]
    # Without a missing type LightGBM takes NaN as 0.
    left = np.where(missing == _NAN, (trees.decision[node] & _DEFAULT_LEFT) > 0, threshold >= 0)
    rows = _full(2 + len(node) // stride, words, room)
    np.bitwise_and.at(rows[0], word[~left], mask[~left])
    np.bitwise_and.at(rows[1:], (np.arange(len(node)) // stride, word), mask)
    after = np.bitwise_and.accumulate(rows[1:], axis=0)
    rows[1], rows[2:] = _FULL, after[:-1]
    return FeatureMasks(column, False, len(node), stride, threshold, word.astype(np.int32), mask, rows)


def _category(
    column: int, trees: _Trees, node: Ints, word: Ints, mask: Any, words: int, stride: int, room: int
) -> FeatureMasks:
    """Rows: missing or unseen, then one per code."""
    place = (np.cumsum(trees.categorical) - 1)[node]
    start, size = trees.set_start[place], (trees.set_end - trees.set_start)[place]
    sets = np.zeros((len(node), int(size.max(initial=1))), dtype=np.uint32)
    _check(sets.shape[1] * _WORD, words, room)
    for part in range(sets.shape[1]):
        sets[size > part, part] = trees.bits[start[size > part] + part]
    left = np.unpackbits(sets.astype("<u4").view(np.uint8), axis=1, bitorder="little").astype(bool)
    codes = int(np.flatnonzero(left.any(axis=0)).max(initial=0)) + 1
    rows = _full(1 + codes, words, room)
    np.bitwise_and.at(rows[0], word, mask)
    for entries in _batches(len(node), codes):
        entry, code = np.nonzero(~left[entries, :codes])
        np.bitwise_and.at(rows[1:], (code, word[entries][entry]), mask[entries][entry])
    nothing = (np.zeros(1), np.zeros(1, np.int32), np.zeros(1, np.uint32))
    return FeatureMasks(column, True, codes, 1, *nothing, rows)


def _batches(entries: int, codes: int) -> Iterator[slice]:
    step = max(1, (1 << 20) // codes)
    return (slice(start, start + step) for start in range(0, entries, step))


def _full(rows: int, words: int, room: int) -> npt.NDArray[np.uint32]:
    _check(rows, words, room)
    return np.full((rows, words), _FULL)


def _check(rows: int, words: int, room: int) -> None:
    if rows * words * 4 > room:
        raise UnsupportedModelError("the model's masks would take too much memory")
