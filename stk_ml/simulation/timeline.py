"""Plots of a replayed year over its days, as inline SVG."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from html import escape

from stk_ml.pages.svg import Scale, dot, line, rectangle, svg, text
from stk_ml.simulation.year import Stretch, Year

_WIDTH, _LEFT, _RIGHT = 620.0, 56.0, 14.0
_DAY = 86_400.0


def pairs(year: Year, metric: str, title: str) -> str:
    """A metric per stretch, with and without retraining beside each other."""
    top, bottom, height = 26.0, 30.0, 230.0
    shown = [each for each in year.stretches if metric in each.governed and metric in each.frozen]
    if not shown:
        return ""
    across = _across(year)
    bounds = [found for each in shown for found in (each.governed[metric], each.frozen[metric])]
    up = Scale.around(bounds, height - bottom, top)
    parts = [*_horizontal(up), *_months(year, across, height), *_versions(year, across, top, height - bottom)]
    for each in shown:
        middle = across((_seconds(each.start) + _seconds(each.end)) / 2)
        for kind, found, shift in (("earlier", each.frozen[metric], 4.0), ("later", each.governed[metric], -4.0)):
            drawn = line("span", middle + shift, up(found.low), middle + shift, up(found.high))
            told = f"{_about(each)}, {'without' if kind == 'earlier' else 'with'} retraining: {found.value:.4f}"
            parts.append(f'<g class="{kind}"><title>{escape(told)} ({found.low:.4f} to {found.high:.4f})</title>')
            parts.append(f"{drawn}{dot(middle + shift, up(found.value))}</g>")
    return svg(_WIDTH, height, title, parts)


def volume(year: Year, title: str) -> str:
    """Rows per day, coloured by what the monitor said, alarms marked."""
    top, bottom, height = 30.0, 30.0, 200.0
    across = _across(year)
    up = Scale(0.0, 1.08 * max([day.rows for day in year.days] + [1]), height - bottom, top)
    parts = [*_horizontal(up), *_months(year, across, height)]
    for day in year.days:
        start = across(_seconds(day.start))
        width = across(_seconds(day.start) + _DAY) - start
        parts.append(f"<g><title>{day.start[:10]}: {day.rows:,} rows, version {day.version}, {day.answer}</title>")
        parts.append(
            rectangle(f"volume {day.answer}", start, up(day.rows), width - 0.6, height - bottom - up(day.rows))
        )
        middle = start + width / 2
        if day.alarm:
            parts.append(f'<path class="alarm" d="M{middle:.1f} {up(day.rows) - 3:.1f} l4 -8 h-8 z"/>')
        elif day.answer == "broken":
            parts.append(text(middle, up(day.rows) - 3, "!", "middle", "broken"))
        parts.append("</g>")
    return svg(_WIDTH, height, title, [*parts, *_versions(year, across, top, height - bottom)])


def _across(year: Year) -> Scale:
    return Scale(_seconds(year.since), _seconds(year.until), _LEFT, _WIDTH - _RIGHT)


def _horizontal(up: Scale) -> Iterator[str]:
    for tick in up.ticks:
        yield line("grid", _LEFT, up(tick), _WIDTH - _RIGHT, up(tick))
        yield text(_LEFT - 8, up(tick) + 4, up.text(tick), "end")


def _months(year: Year, across: Scale, height: float) -> Iterator[str]:
    month = datetime.fromisoformat(year.since).replace(day=1)
    while month.timestamp() < across.high:
        if month.timestamp() >= across.low:
            yield text(across(month.timestamp()), height - 10, f"{month:%b}", "start")
        month = datetime(month.year + month.month // 12, month.month % 12 + 1, 1, tzinfo=UTC)


def _versions(year: Year, across: Scale, top: float, bottom: float) -> Iterator[str]:
    """Where a version has taken over."""
    for event in year.events:
        if event.kind == "promoted":
            x = across(_seconds(event.time))
            yield line("guide", x, top - 4, x, bottom)
            yield text(min(x, _WIDTH - _RIGHT - 10), top - 10, f"v{event.version}", "middle", "label")


def _about(stretch: Stretch) -> str:
    return f"{stretch.start[:10]} to {stretch.end[:10]}, {stretch.rows:,} flights"


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
