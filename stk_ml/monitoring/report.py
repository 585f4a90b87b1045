"""The report of one look: one HTML file that says whether to worry, why, and what to do.

It needs no network and no script. Equal inputs give equal bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from stk_ml.monitor_state import ColumnVerdict, MonitorVerdict, PerformanceFinding
from stk_ml.monitoring import report_charts as charts
from stk_ml.monitoring.shapes import BESIDE, Shape
from stk_ml.pages import html
from stk_ml.pages.charts import Point, over_time
from stk_ml.pages.html import Html
from stk_ml.statistics.metrics import TITLES

#: Columns whose distributions are shown without unfolding.
_SHOWN = 6
_WORDS = {
    "drift": "Drift",
    "stable": "Stable",
    "insufficient": "Cannot tell",
    "worse": "Model has become worse",
    "broken": "Broken data",
}
_MEANS = {
    "distribution": "its values",
    "missing": "missing values",
    "unseen": "categories that training has not seen",
    "out_of_range": "numbers outside the range of the reference",
}


def render(verdict: MonitorVerdict, shapes: Sequence[Shape] = (), past: Sequence[MonitorVerdict] = ()) -> str:
    """The report as HTML.

    Args:
        verdict: of the look.
        shapes: counts then and now, of any of its columns.
        past: the looks up to and with this one, oldest first; the timeline.
    """
    order = sorted(verdict.columns, key=_order)
    title = f"{verdict.model or 'Two tables'}: {_window(verdict)}"
    return html.page(
        title,
        _header(verdict),
        {
            "What to do": ("todo", _todo(verdict)),
            "Broken data": ("quality", _quality(verdict)),
            "Columns": ("columns", _columns(order)),
            "Then and now": ("shapes", _shapes(order, shapes)),
            "Performance": ("performance", _performance(verdict, past)),
            "The looks so far": ("timeline", _timeline(past)),
            "How to read this": ("reading", _reading(verdict)),
        },
    )


def state(verdict: MonitorVerdict) -> str:
    """What matters most of a look: ``broken``, ``drift``, ``worse`` (so the labels say), ``stable``, ``insufficient``.

    Example:
        >>> state(MonitorVerdict("m", 1, "", "", "", "", "", 10, "stable"))
        'stable'
    """
    if verdict.broken or verdict.answer == "drift":
        return "broken" if verdict.broken else "drift"
    return "worse" if any(found.worse and not found.muted for found in verdict.performance) else verdict.answer


def _header(verdict: MonitorVerdict) -> str:
    facts: dict[str, html.Cell] = {
        "Window": f"{_minute(verdict.window_start)} to {_minute(verdict.window_end)} UTC" if verdict.window_end else "",
        "Model": f"{verdict.model}, version {verdict.version}" if verdict.version else verdict.model,
        "Digest": html.code(verdict.digest[:16]),
        "Served by": " / ".join(part for part in (verdict.endpoint, verdict.deployment) if part),
    }
    return "\n".join(
        [
            '<p class="kicker">Monitoring</p>',
            f"<h1>{escape(verdict.model or 'Two tables compared')}</h1>",
            f'<p class="answer {state(verdict)}"><strong>{_WORDS[state(verdict)]}</strong>'
            f"{' · alarm' if verdict.alarm else ''}</p>",
            html.paragraph(verdict.reason, "lead"),
            html.facts(facts),
            _tiles(verdict),
        ]
    )


def _tiles(verdict: MonitorVerdict) -> str:
    moved = sum(column.answer == "drift" for column in verdict.columns)
    unsure = sum(column.answer == "insufficient" for column in verdict.columns)
    tiles = [
        ("rows in the window", f"{verdict.rows:,}", ""),
        ("columns that moved", f"{moved} of {len(verdict.columns)}", f"{unsure} cannot tell" if unsure else ""),
    ]
    best = next((p for p in verdict.performance if not p.muted), None)
    if best:
        change = f"{html.number(best.reference)} when it was made, {best.source}"
        tiles.append((TITLES.get(best.metric, best.metric), html.number(best.value.value), change))
    if verdict.model:
        armed = "" if verdict.armed else "silent until a calm window"
        tiles.append(("false-alarm budget spent", f"{verdict.spent:.0%}", armed or "of this year"))
    items = "".join(
        f'<li><span class="name">{escape(name)}</span><span class="value">{escape(value)}</span>'
        f'<span class="range">{escape(more)}</span></li>'
        for name, value, more in tiles
    )
    return f'<ul class="tiles">{items}</ul>'


def advice(verdict: MonitorVerdict) -> list[str]:
    """What to do, most urgent first, in plain sentences."""
    name, found = verdict.model, []
    moved = [column for column in verdict.columns if column.answer == "drift"]
    used = [column.name for column in moved if column.weight > 0 or column.kind == "score"]
    unused = [column.name for column in moved if column.weight == 0 and column.kind != "score"]
    worse = [p for p in verdict.performance if p.worse and not p.muted]
    if verdict.broken:
        columns = _listed(sorted({finding.column for finding in verdict.quality if finding.column}))
        found.append(f"Mend the data first{f': {columns}' if columns else ''}. Nothing is retrained on it until then.")
    if worse and not verdict.broken:
        metrics = _listed(list(dict.fromkeys(TITLES.get(p.metric, p.metric) for p in worse)))
        found.append(f"The model has become worse ({metrics}). Retrain it: stk-ml retrain {name}")
    if used and not verdict.broken:
        found.append(f"Find out why {_listed(used)} moved: a change of the business, of a source or of its code?")
        if name and not worse:
            found.append(
                f"The governor retrains when alarms go on: stk-ml retrain {name} --status. To do it now: "
                f"stk-ml retrain {name}"
                if verdict.alarm
                else "This has alarmed before and stays silent until a calm window."
                if not verdict.armed
                else "One window alone does not alarm; see the next ones."
            )
    if verdict.joint == "drift":
        apart = _listed(verdict.joint_columns)
        found.append(f"A classifier tells the rows apart from the reference by {apart}: look at them together.")
    if unused:
        found.append(f"{_listed(unused)} moved too, but the model does not use it: no reason to retrain.")
    if verdict.answer == "insufficient" and not verdict.broken:
        sizes = [column.detectable for column in verdict.columns if column.answer == "insufficient"]
        found.append(
            "Too few rows to tell. Look at longer windows (monitor.window in the model's file)"
            + (f"; these rows would have shown an effect of {min(sizes):.2g} or more." if sizes else ".")
        )
    return found or ["Nothing. What is scored looks like what the model was made from."]


def _todo(verdict: MonitorVerdict) -> str:
    return f'<ul class="todo">{"".join(f"<li>{escape(item)}</li>" for item in advice(verdict))}</ul>'


def _quality(verdict: MonitorVerdict) -> str:
    if not verdict.quality:
        return ""
    rows = [[finding.check, finding.column or "the whole window", finding.detail] for finding in verdict.quality]
    return html.table("Broken rather than drifted: retraining is blocked", ["check", "column", "what was seen"], rows)


def _columns(order: Sequence[ColumnVerdict]) -> str:
    if not order:
        return ""
    rows: list[list[html.Cell]] = [
        [
            Html(f"{escape(column.name)}{_badges(column)}"),
            column.kind,
            column.aspect.replace("_", " "),
            html.with_range(column.effect),
            html.number(column.floor),
            _p(column.adjusted),
            html.number(column.detectable),
            html.bar(column.weight, f"{column.weight:.0%}") if column.kind != "score" else Html("–"),
        ]
        for column in order
    ]
    heads = ["column", "kind", "what moved", "effect", "floor", "adjusted p", "would have seen", "used by the model"]
    table = html.table("All columns, the most moved first", heads, rows, numbers=(3, 4, 5, 6))
    plot = charts.effects(order[:20], "Effect of each column in units of its floor")
    caption = "Effects with intervals, in units of the smallest effect that counts, which is the dashed line."
    if any(not column.weight for column in order):
        caption += " Pale names are columns that the model does not use."
    return html.figure(plot, caption, "narrow") + html.details("Numbers", table)


def _shapes(order: Sequence[ColumnVerdict], shapes: Sequence[Shape]) -> str:
    by_name = {(shape.kind == "score", shape.name): shape for shape in shapes}
    cards = []
    for column in order:
        shape = by_name.get((column.kind == "score", column.name))
        plot = charts.then_and_now(shape) if shape else ""
        if shape and plot:
            said = column.detail or f"{_MEANS.get(column.aspect, column.aspect)}: {html.number(column.effect.value)}"
            cards.append(
                f'<figure class="card {column.answer}"><h3>{escape(column.name)}{_badges(column)}</h3>{plot}'
                f"<figcaption>{escape(_sentence(said))}{_beside(shape)}</figcaption></figure>"
            )
    if not cards:
        return ""
    legend = (
        '<p class="legend"><i class="then"></i> reference, when the model was made <i class="now"></i> this window</p>'
    )
    grid = f'<div class="cards">{"".join(cards[:_SHOWN])}</div>'
    rest = cards[_SHOWN:]
    more = (
        html.details(
            f"{len(rest)} more column{'s' if len(rest) > 1 else ''}", f'<div class="cards">{"".join(rest)}</div>'
        )
        if rest
        else ""
    )
    return legend + grid + more


def _beside(shape: Shape) -> str:
    """Rates of what is in no bin, where there are any."""
    found = []
    for name, then, now in zip(BESIDE, shape.beside_then, shape.beside_now, strict=True):
        if then or now:
            rates = f"{then / shape.rows[0]:.1%} → {now / shape.rows[1]:.1%}"
            found.append(f"{name} {rates}")
    return f"<br><small>{escape(', '.join(found))}</small>" if found else ""


def _performance(verdict: MonitorVerdict, past: Sequence[MonitorVerdict]) -> str:
    if not verdict.performance:
        return ""
    says = {True: "worse", False: "not worse", None: "cannot tell"}
    rows: list[list[html.Cell]] = [
        [
            Html(f"{escape(TITLES.get(p.metric, p.metric))} <small>{p.source}</small>"),
            f"muted: {p.muted}" if p.muted else says[p.worse],
            html.with_range(p.value),
            html.number(p.reference),
            f"{p.rows:,}",
            f"{p.matured:.0%}",
        ]
        for p in verdict.performance
    ]
    heads = ["metric", "verdict", "value", "when made", "predictions", "labels there"]
    table = html.table("Of the predictions that can be judged by now", heads, rows, numbers=(2, 3, 4, 5))
    first = verdict.performance[0]
    points = [
        Point(verdict.window_end[5:10], found.value, found.source == "estimated")
        for verdict in past[-charts.LOOKS :]
        if (found := _same(verdict, first)) is not None
    ]
    title = f"{TITLES.get(first.metric, first.metric)}, {first.source}"
    if len(points) < 2:
        return table
    caption = f"{title}, per look, with intervals. The dashed line is the value when the model was made."
    return html.figure(over_time(points, title, first.reference), caption, "recent") + table


def _same(verdict: MonitorVerdict, finding: PerformanceFinding) -> PerformanceFinding | None:
    alike = (p for p in verdict.performance if (p.metric, p.source) == (finding.metric, finding.source))
    return next(alike, None)


def _timeline(past: Sequence[MonitorVerdict]) -> str:
    if len(past) < 2:
        return ""
    rows = [
        [
            _minute(v.window_end),
            _WORDS[state(v)].lower(),
            "alarm" if v.alarm else "",
            f"{v.rows:,}",
            _listed([column.name for column in v.columns if column.answer == "drift"]) or "–",
            str(v.version),
        ]
        for v in reversed(past[-charts.LOOKS :])
    ]
    heads = ["window's end", "answer", "", "rows", "what moved", "version"]
    heat = charts.heat(past, "Effect per column and look")
    return (
        html.figure(
            charts.volume(past, "Rows per look"), "Rows per look. A triangle is an alarm, ! is broken data.", "recent"
        )
        + html.figure(
            heat, "Effect per column and look, the strongest columns: full colour is three times the floor.", "recent"
        )
        + html.details("All looks", html.table("Newest first", heads, rows, numbers=(3,)))
    )


def _reading(verdict: MonitorVerdict) -> str:
    about = (
        "A column has drifted only when both hold: a test that is calibrated on the days of the model's own reference "
        "finds a difference, and the effect is above its floor. Effects of numbers are Wasserstein distances in "
        "interquartile ranges of the reference, of categories total variation (0 to 1), of missing, unseen and "
        "out-of-range values differences of rates."
    )
    budget = "Repeated looks share a yearly budget of false alarms. " if verdict.model else ""
    unsure = "“Cannot tell” means that there were too few rows for an effect of the floor; it is not “stable”."
    return html.paragraph(about) + html.paragraph(budget + unsure)


def _order(column: ColumnVerdict) -> tuple[bool, float, str]:
    ratio = column.effect.value / column.floor if column.floor > 0 else 0.0
    return (column.answer != "drift", -ratio, column.name)


def _badges(column: ColumnVerdict) -> str:
    unused = ' <span class="badge">not used by the model</span>' if not column.weight else ""
    return f' <span class="badge {column.answer}">{_WORDS[column.answer].lower()}</span>{unused}'


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def _listed(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def _window(verdict: MonitorVerdict) -> str:
    return f"{_minute(verdict.window_start)} to {_minute(verdict.window_end)}" if verdict.window_end else "comparison"
