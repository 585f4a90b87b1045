"""A replayed year as one page: how well it went over time with and without retraining, and every decision."""

from __future__ import annotations

from datetime import datetime

from stk_ml.contracts import Interval
from stk_ml.pages import charts, html
from stk_ml.pages.html import Html
from stk_ml.simulation import timeline
from stk_ml.simulation.story import said
from stk_ml.simulation.year import Year

_NAMES = {"auc": "AUC", "log_loss": "log loss", "calibration_error": "calibration error"}
_BETTER = {"auc": "higher is better", "log_loss": "lower is better", "calibration_error": "0 is perfect"}
_KINDS = {
    "alarm": "drift",
    "worse": "decay",
    "broken": "broken data",
    "started": "retrain",
    "canary": "gate passed",
    "refused": "gate refused",
    "promoted": "promoted",
    "rolled_back": "rolled back",
    "failed": "failed",
}


def render(year: Year) -> str:
    """The page; it needs nothing beside it."""
    sections = {
        "What it was worth": ("worth", _worth(year)),
        "Over time": ("time", _over_time(year)),
        "Calibration": ("calibration", _reliability(year)),
        "Volume": ("volume", _volume(year)),
        "Every alarm and decision": ("decisions", _decisions(year)),
    }
    alarms = sum(day.alarm for day in year.days)
    header = (
        html.paragraph("A real year, replayed", "kicker")
        + f"<h1>{html.text(year.model)}</h1>"
        + html.paragraph(
            f"{year.requests:,} flights from {_day(year.since)} to {_day(year.until)} were asked for over HTTP, each "
            f"as it was known two hours before its departure. Labels counted once a plane had landed. The monitor "
            f"looked {len(year.days)} times and alarmed {alarms} times; the governor started {year.retrains} retrains, "
            f"of which {year.promoted} were promoted by gate and canary.",
            "lead",
        )
        + html.paragraph(f"{year.trained}. Without retraining that model would have gone on answering.", "soft")
    )
    return html.page(f"{year.model}: a real year", header, sections)


def _worth(year: Year) -> str:
    rows = [
        (
            f"{_NAMES[metric]} ({_BETTER[metric]})",
            html.with_range(year.total.governed.get(metric)),
            html.with_range(year.total.frozen.get(metric)),
            html.with_range(gain),
            _verdict(gain),
        )
        for metric, gain in year.gain.items()
    ]
    heads = ["metric", "with retraining", "without", "better by", ""]
    caption = f"On the same {year.total.rows:,} flights with a label; 95% intervals by resampling days."
    return html.table(caption, heads, rows, numbers=(1, 2, 3))


def _verdict(gain: Interval) -> str:
    if gain.low > 0:
        return "retraining helped"
    return "retraining hurt" if gain.high < 0 else "cannot tell"


def _over_time(year: Year) -> str:
    figures = [
        html.figure(
            timeline.pairs(year, metric, f"{name} over time, with and without retraining"),
            f"{name} per 14 days ({_BETTER[metric]}), with 95% intervals. Filled: with retraining; open: without. "
            "Dashed: a version takes over.",
        )
        for metric, name in _NAMES.items()
    ]
    return "".join(figures) if year.stretches else ""


def _reliability(year: Year) -> str:
    names = {"governed": "With retraining", "frozen": "Without"}
    plots = [
        html.figure(
            charts.reliability(bins, f"{names[which]}: observed against predicted share"), names[which], "square"
        )
        for which, bins in year.reliability.items()
    ]
    return f'<div class="cards">{"".join(plots)}</div>' if plots else ""


def _volume(year: Year) -> str:
    if not year.days:
        return ""
    caption = (
        "Predictions per day. A triangle is an alarm, an exclamation mark broken data; dashed: a version takes over."
    )
    return html.figure(timeline.volume(year, "Predictions per day, and what the monitor said"), caption)


def _decisions(year: Year) -> str:
    rows = [(_day(event.time), _badge(event.kind), said(event)) for event in year.events]
    return html.table(f"{len(rows)} alarms and decisions, oldest first", ["day", "what", "why"], rows) if rows else ""


def _badge(kind: str) -> Html:
    colour = "stable" if kind in ("promoted", "canary") else "drift" if kind in ("alarm", "worse", "broken") else ""
    return Html(f'<span class="badge {colour}">{_KINDS.get(kind, kind)}</span>')


def _day(time: str) -> str:
    moment = datetime.fromisoformat(time)
    return f"{moment.day} {moment:%B %Y}"
