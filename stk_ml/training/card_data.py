"""What the model card says of data, features, training and limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import metadata
from typing import TYPE_CHECKING

from stk_ml.contracts import Column, Dataset, Evaluation, SplitName
from stk_ml.model_spec import ModelSpec
from stk_ml.pages import html
from stk_ml.training.splits import NAMES, SplitParts

if TYPE_CHECKING:
    from stk_ml.artifact.model import TrainedModel
    from stk_ml.artifact.schema import FeatureField, FeatureSchema

_FEWEST_ROWS = 1000
_LIBRARIES = ("stk-ml", "lightgbm", "scikit-learn", "numpy", "pyarrow")


def moment(text: str) -> str:
    """A time for people, to the minute, UTC.

    Example:
        >>> moment("2013-07-01T06:30:00Z"), moment("2013-07-01T00:00:00Z"), moment("")
        ('2013-07-01 06:30 UTC', '2013-07-01', '')
    """
    day, _, time = text.partition("T")
    return f"{day} {time[:5]} UTC" if time[:5].strip("0:") else day


def period(first: str, last: str) -> str:
    """From one time to another; nothing without them."""
    return f"{moment(first)} to {moment(last)}" if first else ""


def data(spec: ModelSpec, dataset: Dataset, parts: SplitParts, periods: Mapping[SplitName, tuple[str, str]]) -> str:
    """Rows of each split, what was left out, and the pinned tables."""
    counts = parts.rows()
    rows = [[name, f"{counts[name]:,}", period(*periods.get(name, ("", "")))] for name in NAMES]
    facts: dict[str, html.Cell] = {
        "Rows": f"{dataset.rows:,}",
        "Label delay": spec.data.label_delay if spec.timed else "",
        "Purged": f"{parts.purged:,} rows, whose label was not known yet when the next split began"
        if spec.timed
        else "",
        "Out of range": f"{parts.outside:,} rows, before split.start or after split.until" if parts.outside else "",
        "Not labelled yet": f"{dataset.unlabelled:,} rows" if spec.timed else "",
        "Dataset digest": html.code(dataset.digest),
    }
    tables: list[list[html.Cell]] = [
        [
            t.name,
            str(t.version) if t.version >= 0 else "file",
            f"{t.rows:,}" if t.rows >= 0 else "",
            html.code(t.digest[:16]),
        ]
        for t in dataset.snapshot.tables
    ]
    views: list[list[html.Cell]] = [[name, html.code(digest[:16])] for name, digest in dataset.snapshot.views.items()]
    audit: list[list[html.Cell]] = [[a.rule, a.column, f"{a.rows:,} of {a.checked:,}", a.detail] for a in dataset.audit]
    return "".join(
        [
            html.table("Splits", ["split", "rows", "predictions made"], rows, numbers=(1,)),
            html.facts(facts),
            html.table("Tables that were read", ["table", "version", "rows", "digest"], tables, numbers=(1, 2))
            if tables
            else "",
            html.table("Curated views", ["view", "digest of its SQL"], views) if views else "",
            html.details(
                f"Leakage audit: {len(audit)} checks passed",
                html.table("What the audit looked at", ["rule", "column", "rows that broke it", ""], audit),
            )
            if audit
            else "",
        ]
    )


def features(dataset: Dataset, schema: FeatureSchema) -> str:
    """What the model takes: types, ranges and where each comes from."""
    declared = {column.name: column for column in dataset.columns}
    rows: list[list[html.Cell]] = []
    for field in schema.fields:
        column = declared.get(field.name, Column(field.name, field.type))
        missing = "may be missing" if field.nullable else "required"
        rows.append([field.name, field.type, _values(field), missing, column.view or "spine", column.description])
    heads = ["feature", "type", "values", "missing", "from", "description"]
    if not any(row[-1] for row in rows):
        heads, rows = heads[:-1], [row[:-1] for row in rows]
    return html.table(f"The {len(rows)} columns that the model takes", heads, rows)


def _values(field: FeatureField) -> str:
    if field.type == "category":
        shown = ", ".join(field.categories[:8])
        more = len(field.categories) - 8
        return f"{shown} and {more:,} more" if more > 0 else shown
    if field.type == "boolean":
        return "true, false"
    if field.minimum is None and field.maximum is None:
        return "any"
    low = "" if field.minimum is None else f"from {field.minimum:g}"
    high = "" if field.maximum is None else f"to {field.maximum:g}"
    return f"{low} {high}".strip()


def training(spec: ModelSpec, model: TrainedModel) -> str:
    """The learner, its parameters, seed and versions."""
    document = model.document
    rounds = f", {document.iterations:,} rounds" if document.iterations else ""
    facts: dict[str, html.Cell] = {
        "Learner": f"{spec.learner.estimator} ({document.objective}{rounds})",
        "Seed": str(spec.learner.seed),
        "Early stopping": f"after {spec.learner.early_stopping} rounds without gain"
        if model.kind == "lightgbm"
        else "",
        "Refit": ("on training and validation rows" if spec.learner.refit else "no")
        if model.kind == "lightgbm"
        else "",
        "Calibration": document.calibrator.kind if spec.problem == "binary" else "",
        "Versions": ", ".join(_versions()),
    }
    parameters: list[list[html.Cell]] = [
        [name, html.code(json.dumps(value, sort_keys=True, default=str))]
        for name, value in sorted(document.parameters.items())
    ]
    table = html.table("Parameters of the learner", ["parameter", "value"], parameters) if parameters else ""
    return html.facts(facts) + (html.details(f"{len(parameters)} parameters", table) if table else "")


def _versions() -> list[str]:
    found = []
    for name in _LIBRARIES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return found


def limits(
    spec: ModelSpec,
    evaluation: Evaluation,
    dataset: Dataset,
    model: TrainedModel,
    parts: SplitParts,
    periods: Mapping[SplitName, tuple[str, str]],
) -> str:
    """What a reader of the numbers must know."""
    notes = [
        parts.note,
        _refit_note(spec, model),
        _sample_note(evaluation, parts),
        _unlabelled_note(spec, dataset),
        _slice_note(spec, evaluation),
        _interval_note(spec, evaluation),
        _drift_note(evaluation),
    ]
    items = "".join(f"<li>{html.text(note)}</li>" for note in notes if note)
    return f'<ul class="notes">{items}</ul>'


def _refit_note(spec: ModelSpec, model: TrainedModel) -> str:
    if model.kind == "lightgbm" and spec.learner.refit:
        return (
            "The model was fitted again on the validation rows, so their numbers flatter it; the test rows were not. "
            "Calibration and the reference profile of the score come from before, when those rows were new to it."
        )
    return "The validation rows chose the number of rounds and the calibration, so their numbers flatter a little."


def _sample_note(evaluation: Evaluation, parts: SplitParts) -> str:
    found = evaluation.find("train")
    if found is None or found.rows >= len(parts.train):
        return ""
    return f"Metrics of the training rows are of a random sample of {found.rows:,} of {len(parts.train):,}."


def _unlabelled_note(spec: ModelSpec, dataset: Dataset) -> str:
    if not spec.timed or not dataset.unlabelled:
        return ""
    return (
        f"{dataset.unlabelled:,} rows had no label yet and are not counted. If slow labels differ from quick ones, the "
        "newest days look other than they are."
    )


def _slice_note(spec: ModelSpec, evaluation: Evaluation) -> str:
    small = [
        m for m in evaluation.metrics
        if m.rows < _FEWEST_ROWS and any(m.group.startswith(f"{column}=") for column in spec.evaluation.slices)
    ]  # fmt: skip
    if not spec.evaluation.slices:
        return ""
    told = f"Slices of fewer than {spec.evaluation.min_rows:,} rows are not shown"
    if small:
        return f"{told}; {len(small)} that are shown have fewer than {_FEWEST_ROWS:,}, and say little."
    return f"{told}."


def _interval_note(spec: ModelSpec, evaluation: Evaluation) -> str:
    unit = (
        "whole days (pieces of them when there are fewer than 5), because rows of one day depend on each other,"
        if spec.timed
        else "random groups of rows"
    )
    bias = (
        " The calibration error is biased upwards by chance, the more so the fewer the rows."
        if evaluation.problem == "binary"
        else ""
    )
    return f"Intervals resample {unit} {spec.evaluation.resamples:,} times; they cover chance, not change.{bias}"


def _drift_note(evaluation: Evaluation) -> str:
    months = [
        m.values[evaluation.primary]
        for m in evaluation.metrics
        if m.split == "test" and m.group.startswith("month=") and evaluation.primary in m.values
    ]
    if len(months) < 2:
        return ""
    low, high = min(months, key=lambda i: i.value), max(months, key=lambda i: i.value)
    if low.high >= high.low:
        return ""
    return (
        f"Test months differ by more than chance ({html.number(low.value)} to {html.number(high.value)}): expect the "
        "next months to differ as well."
    )
