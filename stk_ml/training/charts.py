"""Plots of the model card as inline SVG: text in, text out, coloured by the card's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from stk_ml.contracts import CalibrationBin, Interval

_WIDTH = 620.0
_LEFT, _RIGHT = 56.0, 16.0
_LONGEST = 24


@dataclass(frozen=True)
class Point:
    """One estimate to draw. ``earlier`` marks what is drawn pale, such as validation beside test."""

    label: str
    interval: Interval
    earlier: bool = False


def over_time(points: Sequence[Point], title: str) -> str:
    """Estimates side by side, such as months, with their intervals."""
    top, bottom, height = 14.0, 34.0, 250.0
    scale = _Scale.around([p.interval for p in points], height - bottom, top)
    parts = [_horizontal(scale, tick) for tick in scale.ticks]
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(points), 1)
    every = math.ceil(len(points) / 12)
    for place, point in enumerate(points):
        x = _LEFT + step * (place + 0.5)
        low, high, value = (scale(v) for v in (point.interval.low, point.interval.high, point.interval.value))
        drawn = _line("span", x, low, x, high) + _dot(x, value)
        parts.append(f'<g class="{"earlier" if point.earlier else "later"}">{_hover(point)}{drawn}</g>')
        if place % every == 0:
            parts.append(_text(x, height - 12, point.label, "middle"))
    return _svg(_WIDTH, height, title, parts)


def side_by_side(points: Sequence[Point], reference: float, title: str) -> str:
    """Estimates below each other, such as slices, with their intervals and a line at a reference value."""
    row, top = 24.0, 24.0
    left = 34 + 7.6 * min(max((len(point.label) for point in points), default=0), _LONGEST)
    height = top + row * len(points) + 10
    scale = _Scale.around([*(p.interval for p in points), Interval(reference, reference, reference)], left, _WIDTH - 20)
    parts = []
    for tick in scale.ticks:
        parts += [
            _line("grid", scale(tick), top, scale(tick), height - 8),
            _text(scale(tick), 14, scale.text(tick), "middle"),
        ]
    parts.append(_line("guide", scale(reference), top, scale(reference), height - 8))
    for place, point in enumerate(points):
        y = top + row * (place + 0.5)
        low, high, value = (scale(v) for v in (point.interval.low, point.interval.high, point.interval.value))
        label = point.label if len(point.label) <= _LONGEST else point.label[: _LONGEST - 1] + "…"
        parts.append(_text(left - 14, y + 4, label, "end", "label"))
        parts.append(f"<g>{_hover(point)}{_line('span', low, y, high, y)}{_dot(value, y)}</g>")
    return _svg(_WIDTH, height, title, parts)


def reliability(bins: Sequence[CalibrationBin], title: str) -> str:
    """Observed against predicted share, with the diagonal of a perfectly calibrated model."""
    size, left, bottom = 380.0, 48.0, 44.0
    most = max([b.predicted for b in bins] + [b.observed.high for b in bins] + [0.05])
    most = 1.0 if most > 0.8 else 1.05 * most
    across, up = _Scale.between(0, most, left, size - 12), _Scale.between(0, most, size - bottom, 12)
    parts = []
    for tick in across.ticks:
        parts += [
            _line("grid", left, up(tick), size - 12, up(tick)),
            _line("grid", across(tick), size - bottom, across(tick), 12),
            _text(left - 8, up(tick) + 4, up.text(tick), "end"),
            _text(across(tick), size - bottom + 18, across.text(tick), "middle"),
        ]
    parts.append(_line("guide", across(0), up(0), across(most), up(most)))
    for b in bins:
        x = across(b.predicted)
        point = Point(f"predicted {b.predicted:.3f}", b.observed)
        span = _line("span", x, up(b.observed.low), x, up(b.observed.high))
        parts.append(f"<g>{_hover(point)}{span}{_dot(x, up(b.observed.value))}</g>")
    parts.append(_text((left + size) / 2, size - 6, "predicted share", "middle"))
    turn = f"translate(13 {(size - bottom) / 2:g}) rotate(-90)"
    parts.append(f'<text text-anchor="middle" transform="{turn}">observed share</text>')
    return _svg(size, size, title, parts)


@dataclass(frozen=True)
class _Scale:
    """Values to pixels, with round ticks."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, intervals: Sequence[Interval], start: float, end: float) -> _Scale:
        low, high = min(i.low for i in intervals), max(i.high for i in intervals)
        room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        return cls.between(low - room, high + room, start, end)

    @classmethod
    def between(cls, low: float, high: float, start: float, end: float) -> _Scale:
        return cls(low, high, start, end)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def step(self) -> float:
        """1, 2 or 5 times a power of ten, so that there are three to six ticks."""
        rough = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(rough))
        return float(next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough))

    @property
    def ticks(self) -> list[float]:
        first = math.ceil(self.low / self.step - 1e-9)
        last = math.floor(self.high / self.step + 1e-9)
        return [k * self.step for k in range(first, last + 1)]

    def text(self, tick: float) -> str:
        return f"{tick:,.{max(0, -math.floor(math.log10(self.step) + 1e-9))}f}"


def _svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    body = "".join(parts)
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">{body}</svg>'


def _horizontal(scale: _Scale, tick: float) -> str:
    y = scale(tick)
    return _line("grid", _LEFT, y, _WIDTH - _RIGHT, y) + _text(_LEFT - 10, y + 4, scale.text(tick), "end")


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _dot(x: float, y: float) -> str:
    return f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'


def _text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _hover(point: Point) -> str:
    found = point.interval
    return f"<title>{escape(point.label)}: {found.value:.4g} ({found.low:.4g} to {found.high:.4g})</title>"
