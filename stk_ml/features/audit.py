"""The leakage audit: refuses a training set with a feature that was not known when the prediction was made.

Four rules. *time*: the spine's own known_time is not after as_of. *replay*: the views are built again over raw data as
it was known at some instants (see :mod:`stk_ml.features.mask`); rows from before must not change. *copy*: no feature is
the target under another name. *suspicion*: no single feature separates the target perfectly.

In a finding, ``rows`` > 0 broke the rule, 0 is fine, and -1 means that the audit cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stk_ml.contracts import AuditFinding, Column
from stk_ml.errors import LeakageError, StkMlError
from stk_ml.features.frame import Frame
from stk_ml.features.labels import moment
from stk_ml.features.mask import Mask
from stk_ml.features.pit import quoted
from stk_ml.features.world import World

#: Quantiles of as_of at which the past is replayed.
INSTANTS = (0.5, 0.9)
#: Newest rows at or before an instant that are compared.
WINDOW = 20_000
SAMPLE = 200_000
PERFECT, STRONG, MIN_CLASS = 0.999, 0.95, 50
_MAX_LEVELS = 50


@dataclass(frozen=True)
class Replayed:
    """What one replay saw: rows compared, and by feature the rows that differ with one example."""

    compared: int
    differing: Mapping[str, tuple[int, str]]
    visible_labels: int = 0


def raise_leaks(findings: Iterable[AuditFinding]) -> None:
    """Raises LeakageError when a rule is broken, naming every column."""
    broken = [finding for finding in findings if finding.rows > 0]
    if broken:
        told = "; ".join(f"column {f.column!r} ({f.rule}): {f.detail}" for f in broken)
        raise LeakageError(
            told, hint="leave the column out (data.exclude), or use only what was known at as_of; see sources.yml"
        )


def time_rule(frame: Frame, world: World, rows: str) -> list[AuditFinding]:
    """The spine's features were known at as_of."""
    as_of, known = frame.spec.data.as_of, frame.known_time
    if not (as_of and known):
        return []
    late, total = world.row(
        f"SELECT count(*) FILTER (NOT coalesce({quoted(known)} <= {quoted(as_of)}, false)), count(*) FROM {rows}"
    )
    detail = f"{known} is after {as_of} (or null) in {late:,} of {total:,} rows of the spine" if late else ""
    return [AuditFinding("time", known, late, total, detail)]


def instants(frame: Frame, world: World, dataset: str) -> list[datetime]:
    """When to replay: fixed quantiles of as_of among the rows of the training set, each at a real row."""
    as_of = quoted(frame.spec.data.as_of)
    (found,) = world.row(f"SELECT quantile_disc({as_of}, {list(INSTANTS)}) FROM {dataset}")
    return sorted(set(found or ()))


def replay(frame: Frame, world: World, data: Path, mask: Mask) -> Replayed:
    """Compares the training set with the same rows in a world where later data is masked.

    Args:
        frame: the resolved model.
        world: holds the views, built over masked raw tables.
        data: the training set's data.parquet.
        mask: how the world was masked.
    """
    as_of = quoted(frame.spec.data.as_of)
    limit = moment(mask.instant)
    world.execute(
        f"CREATE OR REPLACE TEMP TABLE __truth AS SELECT * REPLACE (CAST({as_of} AS TIMESTAMP) AS {as_of}) "
        f"FROM read_parquet('{_escaped(data)}') WHERE CAST({as_of} AS TIMESTAMP) <= {limit} "
        f"ORDER BY {as_of} DESC LIMIT {WINDOW}"
    )
    window = (
        f"CAST({as_of} AS TIMESTAMP) >= (SELECT min({as_of}) FROM __truth) AND CAST({as_of} AS TIMESTAMP) <= {limit}"
    )
    world.execute(f"CREATE OR REPLACE TEMP TABLE __replay AS {frame.joined_sql(frame.rows_sql(window))}")
    keys = " AND ".join(f"t.{quoted(key)} = r.{quoted(key)}" for key in frame.keys)
    pairs = f"__truth AS t JOIN __replay AS r ON {keys}"
    clock, target = quoted(frame.label_time), quoted(frame.spec.data.target)
    differ = {column.name: _differs(column) for column in frame.features}
    counts = ", ".join(f"count(*) FILTER ({sql})" for sql in differ.values())
    visible = f"count(*) FILTER (CAST(t.{clock} AS TIMESTAMP) > {limit} AND r.{target} IS NOT NULL)"
    compared, labels, *rows = world.row(f"SELECT count(*), {visible}, {counts} FROM {pairs}")
    found = {
        name: (int(count), _example(frame, world, pairs, name, differ[name]))
        for name, count in zip(differ, rows, strict=True)
        if count
    }
    return Replayed(int(compared), found, int(labels) if mask.mode == "erased" else 0)


def replay_rule(frame: Frame, masks: Iterable[Mask], run: Callable[[Mask], Replayed]) -> list[AuditFinding]:
    """Replays every mask and gives one finding per feature.

    Args:
        frame: the resolved model.
        masks: instants and modes.
        run: builds the masked world and compares, see :func:`replay`.
    """
    compared, labels = 0, 0
    changed: dict[str, tuple[int, str]] = {}
    findings = []
    for mask in masks:
        try:
            seen = run(mask)
        except StkMlError as error:
            detail = f"cannot tell: the replay at {mask.instant:%Y-%m-%dT%H:%M} ({mask.mode}) failed: {error}"
            findings.append(AuditFinding("replay", "*", -1, 0, detail))
            continue
        compared += seen.compared
        labels += seen.visible_labels
        for name, (rows, example) in seen.differing.items():
            before, detail = changed.get(name, (0, ""))
            told = f"changes when what became known after {mask.instant:%Y-%m-%dT%H:%M} is {mask.mode}: {example}"
            changed[name] = (before + rows, detail or told)
    for column in frame.features:
        rows, detail = changed.get(column.name, (0, ""))
        detail = f"was not known at as_of in {rows:,} of {compared:,} rows replayed; {detail}" if rows else ""
        findings.append(AuditFinding("replay", column.name, rows, compared, detail))
    if not compared:
        findings = [AuditFinding("replay", "*", -1, 0, "cannot tell: no row of the training set was found in a replay")]
    if labels:
        detail = (
            f"cannot tell all: the target of {labels:,} rows is there before {frame.label_time}; "
            "say in sources.yml when the columns it is made from became known"
        )
        findings.append(AuditFinding("replay", frame.spec.data.target, -1, labels, detail))
    return findings


def copy_rule(frame: Frame, world: World, dataset: str) -> list[AuditFinding]:
    """No feature equals the target on all rows."""
    numbers = [column for column in frame.features if column.type != "category"]
    if not numbers:
        return []
    target = quoted(frame.spec.data.target)
    equal = ", ".join(f"bool_and(coalesce(CAST({quoted(c.name)} AS DOUBLE) = {target}, false))" for c in numbers)
    total, *copies = world.row(f"SELECT count(*), {equal} FROM {dataset}")
    return [
        AuditFinding(
            "copy", column.name, total, total, f"equals the target {frame.spec.data.target!r} on all {total:,} rows"
        )
        for column, same in zip(numbers, copies, strict=True)
        if same
    ]


def suspicion_rule(frame: Frame, world: World, dataset: str) -> list[AuditFinding]:
    """No single feature separates the two classes (AUC on an even sample of the rows).

    A feature with an AUC of 0.999 or more, with 50 rows of each class, breaks the rule; 0.95 or more is told.
    """
    if frame.spec.problem != "binary":
        return []
    (total,) = world.row(f"SELECT count(*) FROM {dataset}")
    step = max(1, total // SAMPLE)
    names = ", ".join(map(quoted, [frame.spec.data.target, *(column.name for column in frame.features)]))
    sample = world.reader(
        f"SELECT {names} FROM (SELECT *, row_number() OVER () AS __row FROM {dataset}) WHERE __row % {step} = 0"
    ).read_all()
    label = sample.column(0).to_numpy() == 1
    if min(label.sum(), (~label).sum()) < MIN_CLASS:
        return []
    findings = []
    for index, column in enumerate(frame.features, 1):
        score = _scores(sample.column(index), column, label)
        value = 0.5 if score is None else auc(score, label)
        value = max(value, 1 - value)
        if value >= STRONG:
            rows = len(label) if value >= PERFECT else 0
            what = (
                "separates the target perfectly" if rows else "separates the target very well; was it known at as_of?"
            )
            findings.append(
                AuditFinding("suspicion", column.name, rows, len(label), f"alone it {what} (AUC {value:.4f})")
            )
    return findings


def auc(score: npt.NDArray[np.float64], label: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve, ties counted half (Mann-Whitney).

    Example:
        >>> auc(np.array([1.0, 2.0, 2.0, 3.0]), np.array([False, False, True, True]))
        0.875
    """
    _, inverse, counts = np.unique(score, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(label.sum())
    negatives = len(label) - positives
    return float((ranks[label].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _scores(values: Any, column: Column, label: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64] | None:
    """A feature as one number per row: missing lowest; a category as the share of positives of its value."""
    if column.type == "category":
        encoded = values.combine_chunks().dictionary_encode()
        if len(encoded.dictionary) > _MAX_LEVELS:
            return None  # many rare values separate any target by chance
        codes = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
        size = len(encoded.dictionary) + 1
        rows = np.bincount(codes, minlength=size)
        share = np.bincount(codes, weights=label, minlength=size) / np.maximum(rows, 1)
        return np.asarray(share[codes], dtype=np.float64)
    numbers = values.cast("float64").to_numpy()
    return np.where(np.isnan(numbers), -np.inf, numbers)


def _differs(column: Column) -> str:
    """True where the two values differ; numbers to six digits, since sums depend on their order."""
    name = quoted(column.name)
    if column.type == "category":
        return f"CAST(t.{name} AS VARCHAR) IS DISTINCT FROM CAST(r.{name} AS VARCHAR)"
    true, again = f"CAST(t.{name} AS DOUBLE)", f"CAST(r.{name} AS DOUBLE)"
    return f"({true} IS DISTINCT FROM {again} AND coalesce(abs({true} - {again}) > 1e-9 + 1e-6 * abs({true}), true))"


def _example(frame: Frame, world: World, pairs: str, name: str, differs: str) -> str:
    keys = ", ".join(f"t.{quoted(key)}" for key in frame.keys)
    column = quoted(name)
    *where, true, again = world.row(
        f"SELECT {keys}, t.{column}, r.{column} FROM {pairs} WHERE {differs} ORDER BY {keys} LIMIT 1"
    )
    shown = ", ".join(f"{key}={value}" for key, value in zip(frame.keys, where, strict=True))
    return f"{shown}: {true} becomes {again}"


def _escaped(path: Path) -> str:
    return str(path).replace("'", "''")
