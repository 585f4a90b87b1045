"""The training window of a retrain: the declared split, moved so that the newest matured rows are the test."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import yaml

from stk_ml import declarations
from stk_ml.model_spec import ModelSpec, SplitSpec, duration, instant

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class TrainingWindow:
    """What a retrain learns from and is judged on.

    Attributes:
        now: labels known later do not count; ISO 8601 with Z.
        split: the moved split.
        reason: for people.
    """

    now: str
    split: SplitSpec
    reason: str


def move(spec: ModelSpec, now: datetime) -> TrainingWindow:
    """Moves the dates of a split to ``now``.

    The test ends where labels have matured (``now`` less ``data.label_delay``). It is as long as ``gate.window``, or
    else as the declared validation, or as the declared test when that is shorter: a long test would keep the newest
    rows from the model. The validation keeps its length, and so does the training where ``split.start`` bounds it.
    Dates never move back; where nothing newer has matured the declared split stands. Windows of whole days begin at
    midnight (UTC). A split by fractions, or at random, moves by itself.

    Args:
        spec: the declared model.
        now: when the retrain was started.

    Example:
        >>> from stk_ml.model_spec import DataSpec
        >>> dates = SplitSpec(validation_from="2013-06-01", test_from="2013-07-01", until="2014-01-01")
        >>> spec = ModelSpec("m", "binary", DataSpec("late", table="t", as_of="day", label_delay="1d"), dates)
        >>> moved = move(spec, instant("2013-10-01T15:00")).split
        >>> moved.validation_from, moved.test_from, moved.until
        ('2013-08-01T00:00:00Z', '2013-08-31T00:00:00Z', '2013-09-30T00:00:00Z')
    """
    split, stamp = spec.split, _iso(now)
    if not split.validation_from:
        how = "by fractions of the rows known by then" if spec.timed else "at random"
        return TrainingWindow(stamp, split, f"the split is {how}")
    validation_from, test_from = instant(split.validation_from), instant(split.test_from)
    validation = test_from - validation_from
    test = _test_length(spec, validation, test_from)
    matured = now - duration(spec.data.label_delay)
    if all(length % _DAY == timedelta(0) for length in (validation, test)):
        matured = matured.replace(hour=0, minute=0, second=0, microsecond=0)
    shift = matured - test - test_from
    if shift <= timedelta(0):
        if not test_from < matured:
            return TrainingWindow(stamp, split, f"nothing has matured since the declared test from {split.test_from}")
        shift = timedelta(0)
    moved = msgspec.structs.replace(
        split,
        validation_from=_iso(validation_from + shift),
        test_from=_iso(test_from + shift),
        until=_iso(matured),
        start=_iso(instant(split.start) + shift) if split.start else "",
    )
    return TrainingWindow(stamp, moved, f"validation from {moved.validation_from}, test from {moved.test_from}")


def derive(file: Path, split: SplitSpec, out: Path) -> Path:
    """Writes a model file with another split, all else as declared; ``file`` itself stays as it is.

    Args:
        file: the declared model.
        split: its new split.
        out: where to write; replaced as a whole.

    Raises:
        DeclarationError: ``file`` is not YAML.
    """
    declared = dict(declarations.read(file).data)
    default = SplitSpec()
    changed = {name: value for name, value in msgspec.to_builtins(split).items() if value != getattr(default, name)}
    text = yaml.safe_dump({**declared, "split": changed}, sort_keys=False, allow_unicode=True, width=120)
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    aside.write_text(f"# {file.name} with a moved training window, by stk-ml retrain. Edits are lost.\n{text}", "utf-8")
    return aside.replace(out)


def _test_length(spec: ModelSpec, validation: timedelta, test_from: datetime) -> timedelta:
    if spec.gate.window:
        return duration(spec.gate.window)
    if spec.split.until:
        return min(validation, instant(spec.split.until) - test_from)
    return validation


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
