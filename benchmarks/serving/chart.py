"""Two bar charts as SVG text: requests per second on a log scale, with the 99th percentile beside each bar."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from xml.sax.saxutils import escape

from serving.load import Measured

_WIDTH, _LABEL, _BAR, _ROW, _HEAD = 760, 210, 360, 26, 54
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.h{font-weight:600}.n{fill:#57606a;font-size:12px}"
    ".g{stroke:#d0d7de}.p{fill:#8c959f}.o{fill:#0969da}.e{fill:#d0d7de}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#9198a1}.g{stroke:#30363d}.e{fill:#484f58}}"
)


def draw(
    one: Mapping[str, Measured], many: Mapping[str, Measured], *, ours: str, leave_out: Collection[str] = ()
) -> str:
    """The chart.

    Args:
        one: by server, for one row a request.
        many: by server, for 1,000 rows a request.
        ours: the server to emphasise.
        leave_out: servers that are not drawn.
    """
    parts, top = [], 0
    for title, found in (("1 row a request, 16 connections", one), ("1,000 rows a request, 16 connections", many)):
        shown = {name: m for name, m in sorted(found.items(), key=lambda item: -item[1].rate) if name not in leave_out}
        if shown:
            parts.append(f'<g transform="translate(0,{top})">{_panel(title, shown, ours)}</g>')
            top += _HEAD + _ROW * len(shown) + 24
    label = "Requests per second of stk-ml serve and its peers"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" role="img" aria-label="{label}">'
    return f"{head}<style>{_STYLE}</style>{''.join(parts)}</svg>\n"


def _panel(title: str, found: Mapping[str, Measured], ours: str) -> str:
    rates = [measured.rate for measured in found.values()]
    low, high = math.floor(math.log10(min(rates) * 0.8)), math.log10(max(rates) * 1.1)

    def x(rate: float) -> float:
        return round((math.log10(rate) - low) / (high - low) * _BAR, 1)

    bottom = _HEAD + _ROW * len(found)
    parts = [f'<text class="h" x="0" y="16">{title}: requests per second (log scale)</text>']
    for power in range(low, math.floor(high) + 1):
        at = _LABEL + x(10.0**power)
        parts.append(f'<path class="g" d="M{at} {_HEAD - 8}V{bottom}"/>')
        parts.append(f'<text class="n" x="{at}" y="{_HEAD - 14}" text-anchor="middle">{10**power:,}</text>')
    for place, (name, measured) in enumerate(found.items()):
        y, width = _HEAD + _ROW * place, x(measured.rate)
        kind = "o" if name == ours else "e" if "echo" in name else "p"
        text = f"{measured.rate:,.0f}, p99 {measured.p99:,.{1 if measured.p99 < 100 else 0}f} ms"
        parts.append(f'<text x="{_LABEL - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="{kind}" x="{_LABEL}" y="{y}" width="{width}" height="18" rx="2"/>')
        parts.append(f'<text class="n" x="{_LABEL + width + 6}" y="{y + 14}">{text}</text>')
    return "".join(parts)
