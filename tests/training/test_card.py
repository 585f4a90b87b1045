import dataclasses
import re
import shutil
import subprocess
from html.parser import HTMLParser

import make_dataset
import msgspec
import numpy as np
import pytest

from stk_ml import contracts
from stk_ml.contracts import AuditFinding, Dataset, Evaluation, Importance, Interval, Metrics, Snapshot, TableVersion
from stk_ml.model_spec import EvaluationSpec
from stk_ml.pages.charts import Point, over_time, side_by_side
from stk_ml.pages.html import number
from stk_ml.statistics.calibration import reliability
from stk_ml.training import card
from stk_ml.training.data import load_dataset, split_dataset
from stk_ml.training.fit import fit

EVIL = "<script>alert('&')</script>\"x"
VOID = {"meta", "line", "circle", "br"}


class Checked(HTMLParser):
    """Fails where tags are not nested; collects tags, ids, links and text."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.ids, self.links, self.texts = [], [], [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        self.links += [value for name, value in attrs if name in ("href", "src")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """What a card is made of."""
    folder = tmp_path_factory.mktemp("card")
    spec = make_dataset.spec(
        description=f"Says whether a parcel comes late. {EVIL}",
        owner="Parcels & Co",
        evaluation=EvaluationSpec(slices=("mode",)),
    )
    data = make_dataset.write(folder / "data", make_dataset.parcels(2000))
    model = fit(make_dataset.spec(), data, folder / "model")
    dataset = dataclasses.replace(
        contracts.read(Dataset, data / "dataset.json"),
        snapshot=Snapshot(
            (TableVersion("curated.parcels", "lake/curated/parcels", 4, "ab" * 32, 2000),), {"weather": "cd" * 32}
        ),
        audit=(AuditFinding("known_time", "km", 0, 2000, "known before as_of"),),
        now="2024-04-12T06:30:00Z",
        unlabelled=321,
    )
    split = split_dataset(spec, *load_dataset(data))
    return spec, evaluation(), dataset, model, split, {"test": ("2024-03-20T00:00:00Z", "2024-04-09T23:00:00Z")}


def evaluation():
    def values(auc):
        return {"auc": Interval(auc, auc - 0.01, auc + 0.01), "brier": Interval(0.18, 0.17, 0.19)}

    rng = np.random.default_rng(0)
    scores = rng.uniform(size=2000)
    return Evaluation(
        "late-parcel",
        "binary",
        "auc",
        (
            Metrics("train", "all", 1200, 0.41, values(0.9)),
            Metrics("validation", "all", 300, 0.42, values(0.8)),
            Metrics("test", "all", 400, 0.43, values(0.7321)),
            Metrics("test", "month=2024-03", 200, 0.44, values(0.76)),
            Metrics("test", "month=2024-04", 200, 0.45, values(0.70)),
            Metrics("test", f"mode={EVIL}", 250, 0.4, values(0.71)),
        ),
        reliability((rng.uniform(size=2000) < scores).astype(float), scores),
        tuple(Importance(f"x{k}", 1 / 40, 1 / (k + 1)) for k in range(40)),
    )


@pytest.fixture(scope="module")
def page(parts):
    return card.render(*parts)


def test_it_is_well_formed_and_every_link_stays_inside(page):
    checked = Checked(page)
    assert checked.open == []
    assert len(set(checked.ids)) == len(checked.ids)
    assert all(link.startswith("#") and link[1:] in checked.ids for link in checked.links)


def test_it_needs_neither_network_nor_script(page):
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|<link|<img|javascript:|\son[a-z]+=", page)


def test_all_text_is_escaped(page):
    assert "<script>" not in page
    assert page.count("&lt;script&gt;") >= 3
    assert EVIL in "".join(Checked(page).texts)


def test_it_says_the_numbers_with_their_intervals(page):
    text = re.sub(r"<[^>]+>", " ", page)
    assert "0.732" in text
    assert "0.722 to 0.742" in text
    for said in (
        "Parcels &amp; Co",
        "2024-03-20 to 2024-04-09 23:00 UTC",
        "2024-04-12 06:30 UTC",
        "curated.parcels",
        "321 rows",
    ):
        assert said in text
    for title in (
        "Performance",
        "Calibration",
        "Slices",
        "What it goes by",
        "Limits and caveats",
        "Data",
        "Features",
        "Training",
    ):
        assert f">{title}</h2>" in page
    assert "15 more features" in text
    assert "Test months differ by more than chance" in text
    assert "Leakage audit: 1 checks passed" in text


def test_equal_inputs_give_equal_bytes(parts, page):
    assert card.render(*parts) == page


def test_it_is_accessible(page):
    assert '<html lang="en">' in page
    assert page.count("<svg ") == len(re.findall(r'<svg viewBox="[^"]+" role="img" aria-label="[^"]+">', page))
    assert page.count("<table>") == page.count("<caption>")
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_a_random_split_is_told(parts):
    spec, found, dataset, model, split, _ = parts
    page = card.render(spec, found, dataset, model, dataclasses.replace(split, note="The rows are split at random."))
    assert "The rows are split at random." in page


def test_what_is_not_there_is_not_shown(parts):
    spec, found, dataset, model, split, _ = parts
    bare = dataclasses.replace(found, metrics=found.metrics[:3], calibration=(), importances=())
    page = card.render(msgspec.structs.replace(spec, evaluation=EvaluationSpec()), bare, dataset, model, split)
    assert Checked(page).open == []
    for anchor in ("calibration", "slices", "importance"):
        assert f'id="{anchor}"' not in page
    assert "<svg" not in page


@pytest.mark.parametrize(("low", "high"), [(0.7, 0.8), (0.5, 0.5), (0.0, 0.0), (-3e6, 5e6), (1e-9, 2e-9)])
def test_plots_stay_inside_their_frame(low, high):
    points = [Point("a", Interval((low + high) / 2, low, high)), Point("b" * 60, Interval(low, low, low), True)]
    for svg in (over_time(points, "t"), side_by_side(points, high, "t")):
        width, height = map(float, re.search(r'viewBox="0 0 (\S+) (\S+)"', svg).groups())
        across = [float(v) for v in re.findall(r' (?:x|x1|x2|cx)="([^"]+)"', svg)]
        down = [float(v) for v in re.findall(r' (?:y|y1|y2|cy)="([^"]+)"', svg)]
        assert 0 <= min(across) <= max(across) <= width
        assert 0 <= min(down) <= max(down) <= height


def test_numbers_are_short():
    assert [number(v) for v in (0, 0.5, -0.25, 9.9999, 123.456, 1e6)] == [
        "0",
        "0.500",
        "-0.250",
        "10.000",
        "123.46",
        "1,000,000",
    ]


def test_a_browser_draws_it(page, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no browser: apt install chromium")
    (tmp_path / "card.html").write_text(page, "utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    command = [
        browser,
        *flags,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--dump-dom",
        (tmp_path / "card.html").as_uri(),
    ]
    drawn = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert drawn.returncode == 0
    assert drawn.stdout.count("<section") == page.count("<section")
