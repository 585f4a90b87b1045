"""The result as SVG text: false-alarm rates by size of window, and mean delays by change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

_WIDTH, _LEFT, _ROW = 760, 150, 22
_STYLE = (
    "text{font:13px system-ui,sans-serif;fill:#24292f}.h{font-weight:600}.n{fill:#57606a;font-size:12px}"
    ".g{stroke:#d0d7de;fill:none}.d{stroke:#57606a;stroke-dasharray:4 3;fill:none}.w{stroke:#fff;stroke-width:1.5}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}.n{fill:#9198a1}.g{stroke:#30363d}.d{stroke:#9198a1}"
    ".w{stroke:#0d1117}}"
)
#: Colour and shape of the marks of each tool.
_MARKS = {
    "stk-ml": ("#0969da", "circle"),
    "evidently": ("#d4532b", "square"),
    "nannyml": ("#2da44e", "diamond"),
    "nannyml multivariate": ("#8250df", "triangle"),
    "psi": ("#8c959f", "square"),
}
_TOLD = {
    "stk-ml": "stk-ml",
    "evidently": "Evidently",
    "nannyml": "NannyML",
    "nannyml multivariate": "NannyML multivariate",
    "psi": "PSI &gt; 0.1",
    "evidently performance": "Evidently on labels",
    "nannyml performance": "NannyML on labels",
}
_KINDS = {"alike": "days are alike", "independent": "days differ", "autocorrelated": "autocorrelated days"}


def draw(found: Mapping) -> str:
    """The chart of a result of benchmarks/detection.py."""
    names = [name for name in _MARKS if name in found["false_alarms"][0]["rates"]]
    parts = [_legend(names)]
    top = 34
    parts.append(
        f'<g transform="translate(0,{top})">{"".join(_alarms(found["false_alarms"], names, found["alpha"]))}</g>'
    )
    top += 266
    for peer, rate, rows in _panels(found.get("delays", {})):
        title = f"Windows until the alarm: {_TOLD[peer]}, and stk-ml at the same false-alarm rate"
        parts.append(f'<g transform="translate(0,{top})">{"".join(_delays(title, rate, peer, rows))}</g>')
        top += 66 + _ROW * len(rows)
    box = f'viewBox="0 0 {_WIDTH} {top}" role="img" aria-label="Detection of drift: false alarms and delays"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box}>'
    return f"{head}<style>{_STYLE}</style>{''.join(parts)}</svg>\n"


def _legend(names: Sequence[str]) -> str:
    parts, x = [], 8.0
    for name in names:
        parts.append(f'{_mark(name, x, 11)}<text x="{x + 11}" y="16">{_TOLD[name]}</text>')
        x += 40 + 7.4 * len(_TOLD[name])
    return "".join(parts)


def _alarms(cells: Sequence[Mapping], names: Sequence[str], declared: float) -> Iterator[str]:
    yield '<text class="h" x="0" y="16">Share of windows without drift that alarm, by rows in the window</text>'
    wide, high, left = 215, 150, 46
    sizes = sorted({cell["rows"] for cell in cells})
    for panel, (days, told) in enumerate(_KINDS.items()):
        x0, y0 = left + panel * (wide + 28), 52
        yield f'<text class="n" x="{x0}" y="{y0 - 14}">{told}</text>'
        for share in (0, 0.5, 1):
            y = y0 + high * (1 - share)
            yield f'<path class="g" d="M{x0} {y}h{wide}"/>'
            if not panel:
                yield f'<text class="n" x="{x0 - 5}" y="{y + 4}" text-anchor="end">{share:.0%}</text>'
        at = {size: x0 + 14 + (wide - 28) * place / max(len(sizes) - 1, 1) for place, size in enumerate(sizes)}
        for size in sizes:
            yield f'<text class="n" x="{at[size]:.1f}" y="{y0 + high + 18}" text-anchor="middle">{_short(size)}</text>'
        yield f'<path class="d" d="M{x0} {y0 + high * (1 - declared):.1f}h{wide}"/>'
        here = {cell["rows"]: cell["rates"] for cell in cells if cell["days"] == days}
        for name in reversed(names):
            points = [(at[size], y0 + high * (1 - here[size][name]["rate"])) for size in sizes if name in here[size]]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            yield f'<polyline points="{path}" fill="none" stroke="{_MARKS[name][0]}" stroke-width="1.5"/>'
            yield from (_mark(name, x, y) for x, y in points)
    asked = [
        f"{_TOLD[name]} {min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{_TOLD[name]} {counts[0]}"
        for name in names
        if (counts := [cell["rates"][name]["windows"] for cell in cells])
    ]
    yield f'<text class="n" x="0" y="{y0 + high + 40}">Windows behind each mark: {", ".join(asked)}</text>'


def _panels(delays: Mapping) -> Iterator[tuple[str, str, list[tuple[str, float, float]]]]:
    for peer, equal in delays.get("equal", {}).items():
        rows = [
            (f"{row['change']} {row['size']:g}", each["peer"]["mean"], each["ours"]["mean"])
            for row in delays["changes"]
            if (each := row["compared"].get(peer))
        ]
        theirs, ours = equal["rate"], equal["ours"]["rate"]
        yield peer, f"False alarms: {theirs:.1%} of the windows without a change, stk-ml {ours:.1%}", rows


def _delays(title: str, rate: str, peer: str, rows: Sequence[tuple[str, float, float]]) -> Iterator[str]:
    yield f'<text class="h" x="0" y="16">{title}</text><text class="n" x="0" y="34">{rate}</text>'
    wide = _WIDTH - _LEFT - 20

    def x(delay: float) -> float:
        return round(_LEFT + wide * (delay - 1) / 10, 1)

    bottom = 44 + _ROW * len(rows)
    for tick in (1, 3, 5, 7, 9, 11):
        told = "never" if tick == 11 else str(tick)
        yield f'<path class="g" d="M{x(tick)} 44V{bottom}"/>'
        yield f'<text class="n" x="{x(tick)}" y="{bottom + 14}" text-anchor="middle">{told}</text>'
    for place, (name, theirs, mine) in enumerate(rows):
        y = 44 + _ROW * place + _ROW / 2
        yield f'<text x="{_LEFT - 12}" y="{y + 4}" text-anchor="end">{name}</text>'
        yield f'<path class="g" d="M{x(mine)} {y}H{x(theirs)}" stroke-width="2"/>'
        yield _mark(peer if peer in _MARKS else peer.split()[0], x(theirs), y) + _mark("stk-ml", x(mine), y)


def _mark(name: str, x: float, y: float) -> str:
    colour, shape = _MARKS[name]
    x, y = round(x, 1), round(y, 1)
    path = {
        "circle": f"M{x - 4.5} {y}a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
        "square": f"M{x - 4} {y - 4}h8v8h-8z",
        "diamond": f"M{x} {y - 5.5}l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
        "triangle": f"M{x} {y - 5}l5 9h-10z",
    }[shape]
    return f'<path class="w" d="{path}" fill="{colour}"/>'


def _short(size: int) -> str:
    return f"{size // 1000}k" if size >= 1000 else str(size)
