"""Whether the rows can be learned from: keys, times and labels, checked before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from stk_ml.errors import DataError, LabelError, LeakageError
from stk_ml.features.columns import logical_type
from stk_ml.features.frame import Frame
from stk_ml.features.pit import quoted
from stk_ml.features.world import World


@dataclass(frozen=True)
class Labelled:
    """Which rows have a label, and the label as a number.

    Attributes:
        where: SQL that is true for the rows that count.
        target: SQL of the label: 0 or 1 as TINYINT, or DOUBLE.
        rows: rows that count.
        unlabelled: rows left out because their label is not known (yet).
    """

    where: str
    target: str
    rows: int
    unlabelled: int


def check_labels(frame: Frame, world: World, rows: str, *, now: datetime | None, strict_now: bool) -> Labelled:
    """Checks keys, times and labels of a frame.

    Args:
        frame: the resolved model.
        world: where the rows stand.
        rows: name of a table or view of the frame's rows.
        now: labels known later do not count; None for no limit.
        strict_now: a label that is there although it is known only after ``now`` is an error.

    Raises:
        DataError: a row without as_of or entity, or two rows of one entity and as_of.
        LeakageError: labels known before as_of.
        LabelError: labels that are missing, NaN, from the future, of one class only or of more than two.
    """
    _check_keys(frame, world, rows)
    target, clock = quoted(frame.spec.data.target), quoted(frame.label_time) if frame.label_time else ""
    if clock:
        _check_clock(frame, world, rows, target, clock)
    known = _known(clock, now)
    if now is not None and strict_now and clock:
        _none(
            world,
            f"{rows} WHERE {target} IS NOT NULL AND {clock} > {moment(now)}",
            f"column {frame.spec.data.target!r}: {{n:,}} rows have labels from the future ({frame.label_time} > now)",
            hint="mend label_time or the clock; --now leaves later labels out on purpose",
        )
    missing = f"{target} IS NULL" + (f" OR isnan({target})" if _floating(frame) else "")
    _none(
        world,
        f"{rows} WHERE ({known}) AND ({missing})",
        f"column {frame.spec.data.target!r}: {{n:,}} rows have no label although it should be known (null or NaN)",
        hint="leave these rows out of the view, or give them no label_time",
    )
    counted, total = world.row(f"SELECT count(*) FILTER ({known}), count(*) FROM {rows}")
    if not counted:
        limit = f" known at {now.isoformat()}" if now else ""
        raise LabelError(f"column {frame.spec.data.target!r}: none of {total:,} rows has a label{limit}")
    return Labelled(known, _target(frame, world, f"{rows} WHERE {known}"), counted, total - counted)


def moment(when: datetime) -> str:
    """A time as a TIMESTAMP literal in UTC.

    Example:
        >>> moment(datetime(2013, 7, 1, tzinfo=UTC))
        "TIMESTAMP '2013-07-01 00:00:00.000000'"
    """
    naive = (when if when.tzinfo is None else when.astimezone(UTC)).replace(tzinfo=None)
    return f"TIMESTAMP '{naive.isoformat(sep=' ', timespec='microseconds')}'"


def _check_keys(frame: Frame, world: World, rows: str) -> None:
    for name in frame.keys:
        nulls, total = world.row(f"SELECT count(*) FILTER ({quoted(name)} IS NULL), count(*) FROM {rows}")
        if nulls:
            raise DataError(f"column {name!r}: {nulls:,} of {total:,} rows have no value", hint="each row needs one")
    if not frame.spec.data.entity:
        return
    keys = ", ".join(map(quoted, frame.keys))
    groups = f"SELECT {keys}, count(*) AS __n FROM {rows} GROUP BY {keys} HAVING count(*) > 1"
    times, extra = world.row(f"SELECT count(*), sum(__n) FROM ({groups})")
    if times:
        example = world.row(f"SELECT * FROM ({groups}) ORDER BY {keys} LIMIT 1")
        shown = ", ".join(f"{name}={value}" for name, value in zip(frame.keys, example, strict=False))
        raise DataError(
            f"columns {', '.join(frame.keys)}: {times:,} keys stand on {int(extra):,} rows, for example {shown}",
            hint="entity and as_of must name one row; add a column to data.entity or deduplicate",
        )


def _check_clock(frame: Frame, world: World, rows: str, target: str, clock: str) -> None:
    name = frame.label_time
    _none(
        world,
        f"{rows} WHERE {target} IS NOT NULL AND {clock} IS NULL",
        f"column {name!r}: {{n:,}} rows have a label but no time at which it was known",
        hint="give every label a label_time",
    )
    if frame.spec.data.as_of:
        early, total = world.row(
            f"SELECT count(*) FILTER ({clock} < {quoted(frame.spec.data.as_of)}), count(*) FROM {rows}"
        )
        if early:
            raise LeakageError(
                f"column {name!r}: the label of {early:,} of {total:,} rows was known before {frame.spec.data.as_of}",
                hint="a prediction is made before its label is known; check both times (and their zones)",
            )


def _known(clock: str, now: datetime | None) -> str:
    if not clock:
        return "true"
    return f"{clock} IS NOT NULL" if now is None else f"coalesce({clock} <= {moment(now)}, false)"


def _target(frame: Frame, world: World, labelled: str) -> str:
    """The label as SQL; checks that it can be learned from."""
    name, column = frame.spec.data.target, quoted(frame.spec.data.target)
    stored = frame.types[name]
    if frame.spec.problem == "regression":
        if logical_type(stored) not in ("integer", "number"):
            raise LabelError(f"column {name!r} is {stored}; a regression needs numbers")
        if _floating(frame):
            _none(world, f"{labelled} AND isinf({column})", f"column {name!r}: {{n:,}} rows hold an infinite label")
        return f"CAST({column} AS DOUBLE)"
    found = world.rows(f"SELECT DISTINCT {column} AS v, CAST({column} AS VARCHAR) FROM {labelled} ORDER BY v LIMIT 4")
    shown = ", ".join(text for _, text in found[:3]) + (", ..." if len(found) > 3 else "")
    if len(found) > 2:
        raise LabelError(
            f"column {name!r} has more than two values ({shown}); a binary model needs two",
            hint="problem: regression, or a column of two values",
        )
    positive = frame.spec.data.positive
    chosen = found[-1][1] if positive is None else next((t for v, t in found if _same(v, t, positive)), None)
    if len(found) == 1:
        raise LabelError(f"column {name!r} has only one class: {shown}", hint="both classes are needed to learn")
    if chosen is None:
        raise LabelError(f"column {name!r} never is {positive!r} (data.positive); it holds {shown}")
    literal = "'" + chosen.replace("'", "''") + "'"
    return f"CAST(CAST({column} AS VARCHAR) = {literal} AS TINYINT)"


def _same(value: object, text: str, positive: object) -> bool:
    return value == positive or text.lower() == str(positive).lower()


def _floating(frame: Frame) -> bool:
    return frame.types[frame.spec.data.target] in ("FLOAT", "DOUBLE")


def _none(world: World, source: str, message: str, *, hint: str = "") -> None:
    (count,) = world.row(f"SELECT count(*) FROM {source}")
    if count:
        raise LabelError(message.format(n=count), hint=hint)
