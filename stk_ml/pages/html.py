"""Small pieces of HTML, and the page around them; all text is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from stk_ml.contracts import Interval


@dataclass(frozen=True)
class Html:
    """Text that is HTML already."""

    text: str


Cell = str | Html


def text(value: Cell) -> str:
    """HTML of a cell: escaped, unless it is HTML already.

    Example:
        >>> text("a < b"), text(Html("<b>1</b>"))
        ('a &lt; b', '<b>1</b>')
    """
    return value.text if isinstance(value, Html) else escape(value)


def page(title: str, header: str, sections: Mapping[str, tuple[str, str]]) -> str:
    """A whole page that needs nothing beside it: the style sheet is in it, and the navigation links to the sections.

    Args:
        title: of the window.
        header: HTML above the navigation.
        sections: by their title: anchor and HTML; those without content are left out.
    """
    shown = {name: (anchor, content) for name, (anchor, content) in sections.items() if content}
    links = "".join(f'<li><a href="#{anchor}">{escape(name)}</a></li>' for name, (anchor, _) in shown.items())
    body = "\n".join(section(anchor, name, content) for name, (anchor, content) in shown.items())
    style = files(__package__).joinpath("page.css").read_text("utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<header>\n{header}\n<nav aria-label="Sections"><ul>{links}</ul></nav>\n</header>\n'
        f"<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def section(anchor: str, title: str, *parts: str) -> str:
    """A section with a heading that the navigation links to."""
    body = "\n".join(part for part in parts if part)
    head = f'<h2 id="{anchor}-title">{escape(title)}</h2>'
    return f'<section id="{anchor}" aria-labelledby="{anchor}-title">\n{head}\n{body}\n</section>'


def paragraph(value: Cell, kind: str = "") -> str:
    """A paragraph; nothing when there is nothing to say."""
    content = text(value)
    return f"<p{_class(kind)}>{content}</p>" if content else ""


def figure(svg: str, caption: str, kind: str = "") -> str:
    """A plot that scrolls sideways on a narrow screen."""
    return (
        f'<figure{_class(kind)}><div class="scroll" tabindex="0" role="group" aria-label="plot">{svg}</div>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def facts(pairs: Mapping[str, Cell]) -> str:
    """Names and values below each other; empty values are left out."""
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs.items() if text(value))
    return f'<dl class="facts">{rows}</dl>'


def table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[Sequence[Cell]],
    *,
    numbers: Sequence[int] = (),
    whole: Sequence[int] = (),
) -> str:
    """A table with a caption; the first cell of each row is its heading.

    Args:
        caption: what it shows.
        heads: of the columns.
        rows: cells.
        numbers: columns that are aligned right.
        whole: rows that stand out.
    """

    def cell(tag: str, place: int, value: Cell, scope: str) -> str:
        return f"<{tag}{scope}{_class('number' if place in numbers else '')}>{text(value)}</{tag}>"

    head = "".join(cell("th", place, value, ' scope="col"') for place, value in enumerate(heads))
    body = []
    for line, row in enumerate(rows):
        cells = [
            cell("td" if place else "th", place, value, "" if place else ' scope="row"')
            for place, value in enumerate(row)
        ]
        body.append(f"<tr{_class('whole' if line in whole else '')}>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>\n<tbody>{chr(10).join(body)}</tbody></table></div>"
    )


def details(summary: str, body: str) -> str:
    """What only some readers want, folded."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>"


def number(value: float) -> str:
    """A number for people: three decimals below 10, fewer above.

    Example:
        >>> number(0.73149), number(12.345), number(12345.6), number(0.00012), number(1e-9)
        ('0.731', '12.35', '12,346', '0.00012', '0')
    """
    size = abs(value)
    if size < 0.001:
        return f"{value:.2g}" if size >= 1e-6 else "0"
    return f"{value:.3f}" if size < 10 else f"{value:.2f}" if size < 1000 else f"{value:,.0f}"


def with_range(found: Interval | None) -> Html:
    """A value and, small, its interval; a dash where it is not defined."""
    if found is None:
        return Html("–")
    return Html(f"{number(found.value)} <small>{number(found.low)}–{number(found.high)}</small>")


def code(value: str) -> Html:
    """Text as it is typed; nothing for none."""
    return Html(f"<code>{escape(value)}</code>" if value else "")


def bar(share: float, label: str, kind: str = "") -> Html:
    """A number with a bar of ``share`` of the full width."""
    width = f"{100 * min(max(share, 0), 1):.1f}%"
    drawn = f'<span class="{f"bar {kind}".strip()}" aria-hidden="true"><i style="width:{width}"></i></span>'
    return Html(drawn + escape(label))


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
