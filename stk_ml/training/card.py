"""The model card: one HTML file that says what a model is for, how good it is, and where its limits are.

It needs no network and no script: plots are inline SVG. Equal inputs give equal bytes. The sections follow Mitchell et
al. 2019, "Model Cards for Model Reporting".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from stk_ml.contracts import Dataset, Evaluation, Metrics, SplitName
from stk_ml.model_spec import ModelSpec
from stk_ml.pages import charts, html
from stk_ml.pages.html import Html
from stk_ml.statistics.metrics import HIGHER_IS_BETTER, REPORTED, TITLES
from stk_ml.training import card_data
from stk_ml.training.splits import SplitParts

if TYPE_CHECKING:
    from stk_ml.artifact.model import TrainedModel

#: First and last as_of of each split, ISO 8601 with Z; empty without time.
Periods = Mapping[SplitName, tuple[str, str]]
_MOST_FEATURES = 25


def render(
    spec: ModelSpec,
    evaluation: Evaluation,
    dataset: Dataset,
    model: TrainedModel,
    parts: SplitParts,
    periods: Periods | None = None,
) -> str:
    """The card as HTML.

    Args:
        spec: the model's declaration.
        evaluation: what was measured.
        dataset: the training set.
        model: the model; only its document, schema and digest are read.
        parts: the rows of each split.
        periods: first and last as_of of each split; None when the data has no time.
    """
    periods = periods or {}
    body = {
        "Performance": ("performance", _performance(evaluation)),
        "Calibration": ("calibration", _calibration(evaluation)),
        "Slices": ("slices", _slices(spec, evaluation)),
        "What it goes by": ("importance", _importance(evaluation, model.kind)),
        "Limits and caveats": ("limits", card_data.limits(spec, evaluation, dataset, model, parts, periods)),
        "Data": ("data", card_data.data(spec, dataset, parts, periods)),
        "Features": ("features", card_data.features(dataset, model.schema)),
        "Training": ("training", card_data.training(spec, model)),
    }
    return html.page(f"{spec.name}: model card", _header(spec, evaluation, dataset, model, periods), body)


def _header(spec: ModelSpec, evaluation: Evaluation, dataset: Dataset, model: TrainedModel, periods: Periods) -> str:
    kind = "probability (binary)" if spec.problem == "binary" else "number (regression)"
    facts: dict[str, html.Cell] = {
        "Owner": spec.owner,
        "Predicts": Html(f"{html.code(spec.data.target).text}, as a {escape(kind)}"),
        "Learned from": card_data.period(model.trained_from, model.trained_until),
        "Tested on": card_data.period(*periods.get("test", ("", ""))),
        "Labels known by": card_data.moment(dataset.now),
        "Model digest": html.code(model.digest),
    }
    return "\n".join(
        [
            '<p class="kicker">Model card</p>',
            f"<h1>{escape(spec.name)}</h1>",
            html.paragraph(spec.description, "lead"),
            html.facts(facts),
            _tiles(evaluation),
        ]
    )


def _tiles(evaluation: Evaluation) -> str:
    """The headline: metrics of all test rows."""
    found = evaluation.find("test")
    if found is None:
        return ""
    items = []
    for name in _ordered(evaluation):
        if name in found.values:
            value, title = found.values[name], _capital(TITLES[name])
            kind = ' class="primary"' if name == evaluation.primary else ""
            items.append(
                f'<li{kind}><span class="name">{title}</span><span class="value">{html.number(value.value)}</span>'
                f'<span class="range">{html.number(value.low)} to {html.number(value.high)}</span></li>'
            )
    level = _level(found)
    note = f"On {found.rows:,} test rows that the model has not learned from, with {level} intervals."
    return f'<ul class="tiles">{"".join(items)}</ul>{html.paragraph(note, "soft")}'


def _performance(evaluation: Evaluation) -> str:
    names = [name for name in _ordered(evaluation) if any(name in m.values for m in evaluation.metrics)]
    groups = [m for m in evaluation.metrics if m.group == "all" or m.group.startswith("month=")]
    rows = [
        [m.split if m.group == "all" else m.group.removeprefix("month="), f"{m.rows:,}", html.number(m.positives)]
        + [html.with_range(m.values.get(name)) for name in names]
        for m in groups
    ]
    share = "positive" if evaluation.problem == "binary" else "mean target"
    table = html.table(
        "Each split and month; the small range is the interval",
        ["", "rows", share, *(TITLES[name] for name in names)],
        rows,
        numbers=range(1, 3 + len(names)),
        whole=[place for place, m in enumerate(groups) if m.group == "all"],
    )
    return _months(evaluation) + table


def _months(evaluation: Evaluation) -> str:
    points = [
        charts.Point(m.group.removeprefix("month="), m.values[evaluation.primary], m.split == "validation")
        for m in evaluation.metrics
        if m.group.startswith("month=") and evaluation.primary in m.values
    ]
    if len(points) < 2:
        return ""
    title = f"{_capital(TITLES[evaluation.primary])} per month"
    pale = " Hollow points are validation months." if any(point.earlier for point in points) else ""
    return html.figure(charts.over_time(points, title), f"{title}, with intervals; {_direction(evaluation)}.{pale}")


def _calibration(evaluation: Evaluation) -> str:
    if not evaluation.calibration:
        return ""
    rows: list[list[html.Cell]] = [
        [
            f"{b.low:.3f} to {b.high:.3f}",
            f"{b.rows:,}",
            f"{b.predicted:.3f}",
            Html(f"{b.observed.value:.3f} <small>{b.observed.low:.3f}–{b.observed.high:.3f}</small>"),
        ]
        for b in evaluation.calibration
    ]
    plot = charts.reliability(evaluation.calibration, "Observed share against predicted share")
    caption = (
        "Test rows in bins of equal counts. On the dashed line a prediction of 30% comes true in 30% of the cases."
    )
    table = html.table(
        "Predicted against observed", ["scores", "rows", "mean predicted", "observed"], rows, numbers=(1, 2, 3)
    )
    return html.figure(plot, caption, "square") + table


def _slices(spec: ModelSpec, evaluation: Evaluation) -> str:
    whole, name = evaluation.find("test"), evaluation.primary
    if whole is None or name not in whole.values:
        return ""
    parts = []
    for column in spec.evaluation.slices:
        of_column = [m for m in evaluation.metrics if m.split == "test" and m.group.startswith(f"{column}=")]
        points = [
            charts.Point(m.group.removeprefix(f"{column}="), m.values[name]) for m in of_column if name in m.values
        ]
        if points:
            title = f"{_capital(TITLES[name])} by {column}"
            plot = charts.side_by_side(points, whole.values[name].value, title)
            parts.append(html.figure(plot, f"{title}, most rows first; the dashed line is all test rows."))
            parts.append(html.details(f"{column}: table", _slice_table(evaluation, column, of_column)))
    return "".join(parts)


def _slice_table(evaluation: Evaluation, column: str, found: Sequence[Metrics]) -> str:
    names = _ordered(evaluation)[:3]
    rows = [
        [m.group.removeprefix(f"{column}="), f"{m.rows:,}", html.number(m.positives)]
        + [html.with_range(m.values.get(name)) for name in names]
        for m in found
    ]
    share = "positive" if evaluation.problem == "binary" else "mean target"
    heads = [column, "rows", share, *(TITLES[name] for name in names)]
    return html.table(f"Test rows by {column}", heads, rows, numbers=range(1, 3 + len(names)))


def _importance(evaluation: Evaluation, kind: str) -> str:
    found = evaluation.importances
    if not found:
        return ""
    most_shap = max((i.shap for i in found), default=0) or 1
    digits = max(0, 2 - math.floor(math.log10(most_shap)))  # of all alike: the largest has three
    most_gain = max((i.gain for i in found), default=0) or 1
    rows: list[list[html.Cell]] = [
        [
            item.feature,
            html.bar(item.shap / most_shap, f"{item.shap:,.{digits}f}"),
            html.bar(item.gain / most_gain, f"{item.gain:.1%}", "second"),
        ]
        for item in found
    ]
    unit = "log-odds" if evaluation.problem == "binary" else "units of the target"
    if kind == "lightgbm":
        heads, how = (
            ["feature", f"mean |SHAP| ({unit})", "split gain"],
            "mean absolute SHAP value and share of the split gain",
        )
    else:
        heads, how = (
            ["feature", f"effect of shuffling ({unit})", "weight"],
            "mean absolute change of the score when the column is shuffled, and the learner's own weight",
        )
    first = html.table("The features that move the score most", heads, rows[:_MOST_FEATURES])
    rest = rows[_MOST_FEATURES:]
    more = html.details(f"{len(rest)} more features", html.table("The others", heads, rest)) if rest else ""
    return (
        html.paragraph(f"By {how}, on a sample of test rows. It says what the model uses, not what causes the outcome.")
        + first
        + more
    )


def _ordered(evaluation: Evaluation) -> list[str]:
    """Metrics of the problem, the primary one first."""
    return sorted(REPORTED[evaluation.problem], key=lambda name: name != evaluation.primary)


def _direction(evaluation: Evaluation) -> str:
    return "higher is better" if evaluation.primary in HIGHER_IS_BETTER else "lower is better"


def _level(found: Metrics) -> str:
    return next((f"{value.level:.0%}" for value in found.values.values()), "95%")


def _capital(title: str) -> str:
    return title[:1].upper() + title[1:]
