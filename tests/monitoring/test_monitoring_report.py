"""The report of a look: it stands alone, shows what was decided, and can be read by everybody."""

import itertools
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from stk_ml.contracts import Interval
from stk_ml.monitor_state import ColumnVerdict, MonitorVerdict, PerformanceFinding, QualityFinding
from stk_ml.monitoring.report import advice, render, state
from stk_ml.monitoring.shapes import Shape

NAME = "<script>alert('x')</script> & \"co\""


def column(name: str, answer: str = "stable", weight: float = 0.5, value: float = 0.02) -> ColumnVerdict:
    effect = Interval(value, value / 2, 2 * value)
    return ColumnVerdict(name, "number", answer, "distribution", effect, 0.1, 0.01, 0.02, 0.05, weight, 900)


def shape(name: str, kind: str = "number") -> Shape:
    edges = tuple(float(edge) for edge in range(21))
    return Shape(name, kind, edges, (), (50,) * 20, (30,) * 20, (1, 2, 3, 0, 0), (9, 0, 7, 0, 0))


COLUMNS = (column("km", "drift", value=0.5), column(NAME), column("unused", "drift", 0.0, 0.3), column("score"))
CATEGORY = Shape("mode", "category", (), ("air", NAME), (60, 40), (20, 80), (0,) * 5, (0,) * 5)
VERDICT = MonitorVerdict(
    "late-parcel",
    3,
    "ab" * 32,
    "eta",
    "v3",
    "2024-05-13T00:00:00Z",
    "2024-05-14T00:00:00Z",
    900,
    "drift",
    (*COLUMNS, column("mode")),
    performance=(
        PerformanceFinding("auc", "measured", Interval(0.7, 0.68, 0.72), 0.8, True, 5000, 0.98),
        PerformanceFinding("auc", "estimated", Interval(0.8, 0.7, 0.9), 0.8, None, 900, 0.0, "off by 0.1"),
    ),
    spent=0.2,
    alarm=True,
    reason=f"Moved: km, {NAME}.",
)
PAST = [replace(VERDICT, window_start=f"2024-05-{d:02}T00:00:00Z", alarm=d == 13) for d in range(3, 14)]
SHAPES = (shape("km"), shape(NAME), shape("unused"), CATEGORY, shape("score", "score"))
BROKEN = replace(VERDICT, alarm=False, quality=(QualityFinding("unit", NAME, f"1,000 times {NAME}"),))


class Outline(HTMLParser):
    """Tags with their attributes, in order; complains about tags that are not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "link"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(params=[VERDICT, BROKEN, replace(VERDICT, columns=(), answer="insufficient", performance=())])
def page(request: pytest.FixtureRequest) -> str:
    return render(request.param, SHAPES, PAST)


def test_a_report_stands_alone(page: str) -> None:
    outline = Outline(page)
    assert outline.open == []
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in outline.tags}
    for tag, attributes in outline.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith("#"), tag
        assert not [name for name in attributes if name.startswith("on")]
    assert "url(" not in page
    assert "@import" not in page
    assert not re.search(r"https?://(?!www\.w3\.org)", page)


def test_names_from_the_data_are_text(page: str) -> None:
    assert "<script" not in page
    assert "alert" in page
    assert "&lt;script&gt;" in page


def test_a_report_can_be_read_without_seeing_it(page: str) -> None:
    outline = Outline(page)
    tags = outline.tags
    assert ("html", {"lang": "en"}) in tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    for tag, attributes in tags:
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
        if tag == "div" and "scroll" in (attributes.get("class") or ""):
            assert attributes["tabindex"] == "0"
    for plot in re.findall(r"<svg.*?</svg>", page, re.S):
        ElementTree.fromstring(plot)


def test_equal_inputs_give_equal_bytes() -> None:
    assert render(VERDICT, SHAPES, PAST) == render(VERDICT, SHAPES, PAST)


def test_all_that_was_asked_for_is_there() -> None:
    text = render(VERDICT, SHAPES, PAST)
    for heading in ("What to do", "Columns", "Then and now", "Performance", "The looks so far", "How to read this"):
        assert f"{heading}</h2>" in text
    assert "0.500 <small>0.250–1.000</small>" in text
    assert "0.700 <small>0.680–0.720</small>" in text
    assert "muted: off by 0.1" in text
    assert "not used by the model" in text
    assert "the model does not use it: no reason to retrain" in text
    assert "missing 0.1% → 1.5%" in text
    assert text.count('class="alarm"') == 1
    broken = render(BROKEN, SHAPES, PAST)
    assert "Broken data</h2>" in broken
    assert "Mend the data first" in broken


@pytest.mark.parametrize(
    ("verdict", "expected", "first"),
    [
        (VERDICT, "drift", "The model has become worse"),
        (BROKEN, "broken", "Mend the data first"),
        (replace(VERDICT, performance=()), "drift", "Find out why km moved"),
        (replace(VERDICT, columns=(), answer="stable"), "worse", "The model has become worse"),
        (replace(VERDICT, columns=COLUMNS[1:2], answer="stable", performance=()), "stable", "Nothing."),
        (replace(VERDICT, columns=(), answer="insufficient", performance=()), "insufficient", "Too few rows to tell"),
        (replace(VERDICT, columns=COLUMNS[2:3], answer="stable", performance=()), "stable", "unused moved too"),
    ],
)
def test_what_matters_most_comes_first(verdict: MonitorVerdict, expected: str, first: str) -> None:
    assert state(verdict) == expected
    assert advice(verdict)[0].startswith(first)
    assert f'class="answer {expected}"' in render(verdict, SHAPES, PAST)


def test_a_metric_is_named_once_however_many_groups_show_it() -> None:
    losses = [replace(VERDICT.performance[0], metric=name) for name in ("auc", "auc", "log_loss", "log_loss")]
    assert advice(replace(VERDICT, performance=tuple(losses)))[0].startswith(
        "The model has become worse (AUC, log loss)."
    )


def test_a_report_of_many_looks_stays_small_and_quick() -> None:
    wide = replace(VERDICT, columns=tuple(column(f"column {place}") for place in range(25)))
    text = render(wide, [shape(f"column {place}") for place in range(25)], [wide] * 400)
    assert len(text) < 700_000


@pytest.mark.parametrize("width", [500, 1280])
def test_a_browser_shows_no_page_wider_than_the_screen(tmp_path: Path, width: int) -> None:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("apt-get install chromium")
    told = "<script>document.title = [innerWidth, document.documentElement.scrollWidth].join(' ')</script>"
    file = tmp_path / "report.html"
    file.write_text(render(BROKEN, SHAPES, PAST).replace("</body>", f"{told}</body>"), "utf-8")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={width},900",
        f"--user-data-dir={tmp_path}/u",
    ]
    done = subprocess.run([browser, *flags, "--dump-dom", file.as_uri()], capture_output=True, text=True, timeout=60)
    found = re.search(r"<title>(\d+) (\d+)</title>", done.stdout)
    assert found, done.stderr[-2000:]
    assert int(found[2]) <= int(found[1])
