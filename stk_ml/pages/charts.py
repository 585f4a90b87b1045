"""Plots as inline SVG: text in, text out, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from stk_ml.contracts import CalibrationBin, Interval
from stk_ml.pages.svg import Scale, dot, line, svg, text

_WIDTH = 620.0
_LEFT, _RIGHT = 56.0, 16.0
_LONGEST = 24


@dataclass(frozen=True)
class Point:
    """One estimate to draw. ``earlier`` marks what is drawn pale, such as validation beside test."""

    label: str
    interval: Interval
    earlier: bool = False


def over_time(points: Sequence[Point], title: str, reference: float | None = None) -> str:
    """Estimates side by side, such as months, with their intervals, and a line at a reference value if there is one."""
    top, bottom, height = 14.0, 34.0, 250.0
    fixed = [] if reference is None else [Interval(reference, reference, reference)]
    scale = Scale.around([*(p.interval for p in points), *fixed], height - bottom, top)
    parts = [_horizontal(scale, tick) for tick in scale.ticks]
    if reference is not None:
        parts.append(line("guide", _LEFT, scale(reference), _WIDTH - _RIGHT, scale(reference)))
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(points), 1)
    every = math.ceil(len(points) / 12)
    for place, point in enumerate(points):
        x = _LEFT + step * (place + 0.5)
        low, high, value = (scale(v) for v in (point.interval.low, point.interval.high, point.interval.value))
        drawn = line("span", x, low, x, high) + dot(x, value)
        parts.append(f'<g class="{"earlier" if point.earlier else "later"}">{_hover(point)}{drawn}</g>')
        if place % every == 0:
            parts.append(text(x, height - 12, point.label, "middle"))
    return svg(_WIDTH, height, title, parts)


def side_by_side(points: Sequence[Point], reference: float, title: str) -> str:
    """Estimates below each other, such as slices, with their intervals and a line at a reference value."""
    row, top = 24.0, 24.0
    left = 34 + 7.6 * min(max((len(point.label) for point in points), default=0), _LONGEST)
    height = top + row * len(points) + 10
    scale = Scale.around([*(p.interval for p in points), Interval(reference, reference, reference)], left, _WIDTH - 20)
    parts = []
    for tick in scale.ticks:
        parts += [
            line("grid", scale(tick), top, scale(tick), height - 8),
            text(scale(tick), 14, scale.text(tick), "middle"),
        ]
    parts.append(line("guide", scale(reference), top, scale(reference), height - 8))
    for place, point in enumerate(points):
        y = top + row * (place + 0.5)
        low, high, value = (scale(v) for v in (point.interval.low, point.interval.high, point.interval.value))
        label = point.label if len(point.label) <= _LONGEST else point.label[: _LONGEST - 1] + "…"
        parts.append(text(left - 14, y + 4, label, "end", "label"))
        parts.append(f"<g>{_hover(point)}{line('span', low, y, high, y)}{dot(value, y)}</g>")
    return svg(_WIDTH, height, title, parts)


def reliability(bins: Sequence[CalibrationBin], title: str) -> str:
    """Observed against predicted share, with the diagonal of a perfectly calibrated model."""
    size, left, bottom = 380.0, 48.0, 44.0
    most = max([b.predicted for b in bins] + [b.observed.high for b in bins] + [0.05])
    most = 1.0 if most > 0.8 else 1.05 * most
    across, up = Scale(0, most, left, size - 12), Scale(0, most, size - bottom, 12)
    parts = []
    for tick in across.ticks:
        parts += [
            line("grid", left, up(tick), size - 12, up(tick)),
            line("grid", across(tick), size - bottom, across(tick), 12),
            text(left - 8, up(tick) + 4, up.text(tick), "end"),
            text(across(tick), size - bottom + 18, across.text(tick), "middle"),
        ]
    parts.append(line("guide", across(0), up(0), across(most), up(most)))
    for b in bins:
        x = across(b.predicted)
        point = Point(f"predicted {b.predicted:.3f}", b.observed)
        span = line("span", x, up(b.observed.low), x, up(b.observed.high))
        parts.append(f"<g>{_hover(point)}{span}{dot(x, up(b.observed.value))}</g>")
    parts.append(text((left + size) / 2, size - 6, "predicted share", "middle"))
    turn = f"translate(13 {(size - bottom) / 2:g}) rotate(-90)"
    parts.append(f'<text text-anchor="middle" transform="{turn}">observed share</text>')
    return svg(size, size, title, parts)


def _horizontal(scale: Scale, tick: float) -> str:
    y = scale(tick)
    return line("grid", _LEFT, y, _WIDTH - _RIGHT, y) + text(_LEFT - 10, y + 4, scale.text(tick), "end")


def _hover(point: Point) -> str:
    found = point.interval
    return f"<title>{escape(point.label)}: {found.value:.4g} ({found.low:.4g} to {found.high:.4g})</title>"
