"""Plots of a monitoring report as inline SVG: a column then and now, and what the looks so far have seen."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape

from stk_ml.monitor_state import ColumnVerdict, MonitorVerdict
from stk_ml.monitoring.shapes import Shape
from stk_ml.pages.svg import Scale, dot, line, rectangle, svg, text

_WIDTH, _NARROW = 620.0, 480.0
#: Categories that are drawn, the most frequent ones.
_CATEGORIES = 8
#: Columns and looks of the heat map.
_COLUMNS, LOOKS = 15, 60
#: Share of the reference's rows that may lie outside a plot on each side, so that a long tail does not squeeze it.
_TAIL = 0.01
_LONGEST = 22


def then_and_now(shape: Shape) -> str:
    """How a column was distributed in the reference (filled) and is in the window (line), or shares by category."""
    rows = shape.rows
    if not rows[0] or not rows[1]:
        return ""
    if shape.categories or _few(shape):
        return _shares(shape)
    return _densities(shape)


def effects(columns: Sequence[ColumnVerdict], title: str) -> str:
    """Effects with their intervals in units of the floor: right of the line at 1 a column has moved enough to count."""
    row, top, most = 26.0, 30.0, 6.0
    left = 34 + 7.6 * min(max((len(column.name) for column in columns), default=0), _LONGEST)
    right = _NARROW - 56
    top_value = max([_ratio(column.effect.value, column.floor) for column in columns] + [1.5])
    scale = Scale(0.0, min(max(1.15 * top_value, 2.0), most), left, right)
    height = top + row * len(columns) + 8
    parts = []
    for tick in scale.ticks:
        parts += [line("grid", scale(tick), top - 6, scale(tick), height - 6)]
        parts += [text(scale(tick), 14, scale.text(tick), "middle")]
    parts.append(line("guide", scale(1.0), top - 8, scale(1.0), height - 4))
    for place, column in enumerate(columns):
        y = top + row * (place + 0.5)
        low, high, value = (
            min(_ratio(v, column.floor), scale.high)
            for v in (column.effect.low, column.effect.high, column.effect.value)
        )
        drawn = line("span", scale(low), y, scale(high), y) + dot(scale(value), y)
        parts.append(text(left - 14, y + 4, clipped(column.name), "end", "label" if column.weight else "tick"))
        parts.append(f'<g class="{column.answer}">{_title(_told(column))}{drawn}</g>')
        parts.append(text(right + 12, y + 4, f"{_ratio(column.effect.value, column.floor):.1f}", "start"))
    return svg(_NARROW, height, title, parts)


def heat(past: Sequence[MonitorVerdict], title: str) -> str:
    """Effects over the looks so far: one line per column, the strongest first; darker is further from the reference."""
    shown = past[-LOOKS:]
    names = _strongest(shown)
    left = 34 + 7.6 * min(max(map(len, names), default=0), _LONGEST)
    row, top = 20.0, 12.0
    step = (_WIDTH - left - 12) / max(len(shown), 1)
    height = top + row * len(names) + 30
    parts = []
    for line_number, name in enumerate(names):
        y = top + row * line_number
        parts.append(text(left - 12, y + 14, clipped(name), "end", "label"))
        for place, verdict in enumerate(shown):
            column = next((column for column in verdict.columns if column.name == name), None)
            if column is not None:
                # From nothing to three times the floor, in the strength of the colour.
                strength = min(_ratio(column.effect.value, column.floor) / 3, 1.0)
                cell = rectangle(f"heat {column.answer}", left + step * place + 1, y + 1, step - 2, row - 2, strength)
                parts.append(f"<g>{_title(f'{_day(verdict)}: {_told(column)}')}{cell}</g>")
    parts += _days(shown, left, step, height - 10)
    return svg(_WIDTH, height, title, parts)


def volume(past: Sequence[MonitorVerdict], title: str) -> str:
    """Rows per look, coloured by its answer, alarms marked."""
    shown = past[-LOOKS:]
    left, top, bottom, height = 64.0, 26.0, 30.0, 190.0
    scale = Scale(0.0, 1.05 * max([verdict.rows for verdict in shown] + [1]), height - bottom, top)
    step = (_WIDTH - left - 12) / max(len(shown), 1)
    parts = []
    for tick in scale.ticks:
        parts += [line("grid", left, scale(tick), _WIDTH - 12, scale(tick))]
        parts += [text(left - 10, scale(tick) + 4, scale.text(tick), "end")]
    for place, verdict in enumerate(shown):
        x, y = left + step * place, scale(verdict.rows)
        bar = rectangle(f"volume {verdict.answer}", x + 1, y, max(step - 2, 1), height - bottom - y)
        mark = f'<path class="alarm" d="M{x + step / 2:.1f} {y - 4:.1f} l5 -9 h-10 z"/>' if verdict.alarm else ""
        broken = text(x + step / 2, y - 4, "!", "middle", "broken") if verdict.broken else ""
        answer = "broken data" if verdict.broken else verdict.answer
        parts.append(f"<g>{_title(f'{_day(verdict)}: {verdict.rows:,} rows, {answer}')}{bar}{mark or broken}</g>")
    parts += _days(shown, left, step, height - 10)
    return svg(_WIDTH, height, title, parts)


def clipped(name: str) -> str:
    """A name that fits beside a plot."""
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _densities(shape: Shape) -> str:
    shape = _wide(shape)
    left, top, bottom, height, width = 12.0, 8.0, 26.0, 150.0, 380.0
    low, high = _range(shape)
    across = Scale(low, high, left, width - 12)
    densities = [
        _density(shape.edges, counts, rows) for counts, rows in zip((shape.then, shape.now), shape.rows, strict=True)
    ]
    inside = [
        d
        for density in densities
        for d, (a, b) in zip(density, _bins(shape.edges), strict=True)
        if b > low and a < high
    ]
    up = Scale(0.0, 1.05 * (max(inside) or 1.0), height - bottom, top)
    parts = [text(across(tick), height - 8, across.text(tick), "middle") for tick in across.ticks]
    parts.append(line("grid", left, up(0), width - 12, up(0)))
    for kind, density in zip(("then", "now"), densities, strict=True):
        points = [(across(low), up(0))]
        for value, (start, end) in zip(density, _bins(shape.edges), strict=True):
            if end > low and start < high:
                y = max(up(value), top)
                points += [(across(max(start, low)), y), (across(min(end, high)), y)]
        points.append((points[-1][0], up(0)))
        drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polygon class="{kind}" points="{drawn}"/>')
    return svg(width, height, f"{shape.name}, then and now", parts)


def _shares(shape: Shape) -> str:
    labels = shape.categories or tuple(f"{edge:g}" for edge in shape.edges[: len(shape.then)])
    order = sorted(range(len(labels)), key=lambda place: -max(shape.then[place], shape.now[place]))[:_CATEGORIES]
    kept = order if shape.categories else sorted(order)
    row, left, width = 26.0, 118.0, 380.0
    height = row * len(kept) + 8
    shares = [(shape.then[place] / shape.rows[0], shape.now[place] / shape.rows[1]) for place in kept]
    scale = Scale(0.0, max(max(pair) for pair in shares) or 1.0, left, width - 58)
    parts = []
    for line_number, (place, (then, now)) in enumerate(zip(kept, shares, strict=True)):
        y = 4 + row * line_number
        parts.append(text(left - 8, y + 17, clipped(labels[place])[:15], "end", "label"))
        parts.append(rectangle("then", left, y + 3, scale(then) - left, 9))
        parts.append(rectangle("now", left, y + 13, scale(now) - left, 9))
        parts.append(text(max(scale(then), scale(now)) + 6, y + 17, f"{now:.0%}", "start"))
    return svg(width, height, f"{shape.name}, then and now", parts)


def _few(shape: Shape) -> bool:
    """Whether the bins are single values, so that shares tell more than densities: a flag, a small count."""
    return len(shape.then) <= _CATEGORIES


def _bins(edges: Sequence[float]) -> Iterator[tuple[float, float]]:
    return itertools.pairwise(edges)


def _density(edges: Sequence[float], counts: Sequence[int], rows: int) -> list[float]:
    """Share of the rows per unit of each bin."""
    return [count / rows / (high - low) for count, (low, high) in zip(counts, _bins(edges), strict=True)]


def _wide(shape: Shape) -> Shape:
    """Without the last bin when it has no width (one value that stands twice): its rows go to the bin before it."""
    if shape.edges[-1] > shape.edges[-2]:
        return shape
    then, now = ((*counts[:-2], sum(counts[-2:])) for counts in (shape.then, shape.now))
    return replace(shape, edges=shape.edges[:-1], then=then, now=now)


def _range(shape: Shape) -> tuple[float, float]:
    """The values between which nearly all rows lie, then and now."""
    bounds = []
    for counts in (shape.then, shape.now):
        inside = sum(counts)
        if not inside:
            continue
        low, high = shape.edges[0], shape.edges[-1]
        below = 0.0
        for count, (start, end) in zip(counts, _bins(shape.edges), strict=True):
            share = count / inside
            if below <= _TAIL < below + share:
                low = start + (end - start) * (_TAIL - below) / share
            if below < 1 - _TAIL <= below + share:
                high = start + (end - start) * (1 - _TAIL - below) / share
            below += share
        bounds.append((low, high))
    low, high = min(b[0] for b in bounds), max(b[1] for b in bounds)
    return (low, high) if high > low else (shape.edges[0], shape.edges[-1])


def _ratio(value: float, floor: float) -> float:
    return value / floor if floor > 0 else 0.0


def _strongest(past: Sequence[MonitorVerdict]) -> list[str]:
    strength: dict[str, float] = {}
    for verdict in past:
        for column in verdict.columns:
            strength[column.name] = max(strength.get(column.name, 0.0), _ratio(column.effect.value, column.floor))
    return sorted(strength, key=lambda name: -strength[name])[:_COLUMNS]


def _days(past: Sequence[MonitorVerdict], left: float, step: float, y: float) -> Iterator[str]:
    every = math.ceil(len(past) / 10)
    for place, verdict in enumerate(past):
        if place % every == 0:
            yield text(left + step * (place + 0.5), y, _day(verdict)[5:], "middle")


def _day(verdict: MonitorVerdict) -> str:
    """The window by its beginning: a date, with the hour when it does not begin at midnight."""
    return verdict.window_start[:10] if "T00:00:00" in verdict.window_start else verdict.window_start[:13] + "h"


def _told(column: ColumnVerdict) -> str:
    found = column.effect
    span = f"{found.value:.3g} ({found.low:.3g} to {found.high:.3g})"
    return f"{column.name} {column.answer}: {span}, floor {column.floor:.3g}"


def _title(words: str) -> str:
    return f"<title>{escape(words)}</title>"
