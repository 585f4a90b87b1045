"""What plots are drawn with: scales with round ticks and the elements of an SVG, coloured by the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from stk_ml.contracts import Interval


@dataclass(frozen=True)
class Scale:
    """Values to pixels, with round ticks.

    Example:
        >>> scale = Scale(0.0, 10.0, 100.0, 200.0)
        >>> scale(5.0), scale.ticks, scale.text(2.0)
        (150.0, [0.0, 2.0, 4.0, 6.0, 8.0, 10.0], '2')
    """

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def around(cls, intervals: Sequence[Interval], start: float, end: float) -> Scale:
        """One on which all intervals can be seen, with some room."""
        low, high = min(i.low for i in intervals), max(i.high for i in intervals)
        room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        return cls(low - room, high + room, start, end)

    def __call__(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    @property
    def step(self) -> float:
        """1, 2 or 5 times a power of ten, so that there are three to six ticks."""
        rough = (self.high - self.low) / 5
        unit = 10.0 ** math.floor(math.log10(rough))
        return float(next(unit * factor for factor in (1, 2, 5, 10) if unit * factor >= rough))

    @property
    def ticks(self) -> list[float]:
        """Round values, rising."""
        first = math.ceil(self.low / self.step - 1e-9)
        last = math.floor(self.high / self.step + 1e-9)
        return [k * self.step for k in range(first, last + 1)]

    def text(self, tick: float) -> str:
        """A tick with as many decimals as its step has."""
        return f"{tick:,.{max(0, -math.floor(math.log10(self.step) + 1e-9))}f}"


def svg(width: float, height: float, title: str, parts: Sequence[str]) -> str:
    """An SVG that scales to the width of its place."""
    body = "".join(parts)
    return f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}">{body}</svg>'


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    """A line: grid, guide or span."""
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def dot(x: float, y: float) -> str:
    """An estimate."""
    return f'<circle class="point" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/>'


def rectangle(kind: str, x: float, y: float, width: float, height: float, opacity: float = 1.0) -> str:
    """A bar or cell; nothing has a negative size."""
    faint = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
    size = f'width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" {size}{faint}/>'


def text(x: float, y: float, text: str, anchor: str, kind: str = "tick") -> str:
    """Text, escaped; ``anchor`` is start, middle or end."""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
