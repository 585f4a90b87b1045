"""Bar charts as SVG text, on a log scale: servers with the 99th percentile beside each bar, and whatever else."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from serving.load import Measured

_WIDTH, _LABEL, _BAR, _ROW, _HEAD = 760, 210, 360, 26, 54
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.h{font-weight:600}.n{fill:#57606a;font-size:12px}"
    ".g{stroke:#d0d7de}.p{fill:#8c959f}.o{fill:#0969da}.e{fill:#d0d7de}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#9198a1}.g{stroke:#30363d}.e{fill:#484f58}}"
)


@dataclass(frozen=True)
class Bar:
    """One bar: its name, the value that it shows, what stands beside it, and its style (o: ours, p: peer, e: other)."""

    name: str
    value: float
    text: str
    style: str = "p"


def draw(
    one: Mapping[str, Measured], many: Mapping[str, Measured], *, ours: str, leave_out: Collection[str] = ()
) -> str:
    """The chart of servers.

    Args:
        one: by server, for one row a request.
        many: by server, for 1,000 rows a request.
        ours: the server to emphasise.
        leave_out: servers that are not drawn.
    """
    panels = []
    for title, found in (("1 row a request, 16 connections", one), ("1,000 rows a request, 16 connections", many)):
        shown = {name: m for name, m in sorted(found.items(), key=lambda item: -item[1].rate) if name not in leave_out}
        bars = [
            Bar(
                name,
                measured.rate,
                f"{measured.rate:,.0f}, p99 {measured.p99:,.{1 if measured.p99 < 100 else 0}f} ms",
                "o" if name == ours else "e" if "echo" in name else "p",
            )
            for name, measured in shown.items()
        ]
        panels.append((f"{title}: requests per second (log scale)", bars))
    return page("Requests per second of stk-ml serve and its peers", panels)


def page(label: str, panels: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """Panels below each other, each a title and its bars; those without bars are left out."""
    parts, top = [], 0
    for title, bars in panels:
        if bars:
            parts.append(f'<g transform="translate(0,{top})">{_panel(title, bars)}</g>')
            top += _HEAD + _ROW * len(bars) + 24
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" role="img" aria-label="{label}">'
    return f"{head}<style>{_STYLE}</style>{''.join(parts)}</svg>\n"


def _panel(title: str, bars: Sequence[Bar]) -> str:
    values = [bar.value for bar in bars]
    low, high = math.floor(math.log10(min(values) * 0.8)), math.log10(max(values) * 1.1)

    def x(value: float) -> float:
        return round((math.log10(value) - low) / (high - low) * _BAR, 1)

    bottom = _HEAD + _ROW * len(bars)
    parts = [f'<text class="h" x="0" y="16">{escape(title)}</text>']
    for power in range(low, math.floor(high) + 1):
        at = _LABEL + x(10.0**power)
        told = f"{10**power:,}" if power >= 0 else f"{10.0**power:g}"
        parts.append(f'<path class="g" d="M{at} {_HEAD - 8}V{bottom}"/>')
        parts.append(f'<text class="n" x="{at}" y="{_HEAD - 14}" text-anchor="middle">{told}</text>')
    for place, bar in enumerate(bars):
        y, width = _HEAD + _ROW * place, x(bar.value)
        parts.append(f'<text x="{_LABEL - 8}" y="{y + 14}" text-anchor="end">{escape(bar.name)}</text>')
        parts.append(f'<rect class="{bar.style}" x="{_LABEL}" y="{y}" width="{width}" height="18" rx="2"/>')
        parts.append(f'<text class="n" x="{_LABEL + width + 6}" y="{y + 14}">{escape(bar.text)}</text>')
    return "".join(parts)
