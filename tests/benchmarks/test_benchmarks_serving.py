"""The pure parts of benchmarks/serving.py: the chart, the slope of memory, the pinned lists."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])


def test_the_chart_draws_a_bar_per_server_the_fastest_first() -> None:
    from serving import chart
    from serving.load import Measured

    found = {"slow & old": Measured([10.0], [5.0], [9.0]), "ours": Measured([1000.0], [1.0], [2.0])}
    drawn = ElementTree.fromstring(chart.draw(found, found, ours="ours", leave_out=("absent",)))
    widths = [float(bar.get("width", "0")) for bar in drawn.iter() if bar.tag.endswith("rect")]
    assert widths[0] > widths[1] > 0
    assert len(widths) == 4


def test_a_share_of_the_core_gives_requests_per_second_of_processor_time() -> None:
    from serving.load import Measured

    assert Measured([100.0, 90.0, 40.0], [1.0] * 3, [2.0] * 3, [1.0, 0.9, 0.5]).per_cpu == pytest.approx(100.0)


def test_memory_that_grows_only_while_it_warms_up_is_flat() -> None:
    from serving.soak import slope

    warming = [(place * 10_000, min(100.0 + place, 120.0)) for place in range(60)]
    leaking = [(place * 10_000, 100.0 + place) for place in range(60)]
    assert slope(warming) == 0.0
    assert slope(leaking) == pytest.approx(10.0)


def test_an_answer_is_wrong_when_its_scores_are_not_those_of_the_model_that_it_names() -> None:
    from serving.callers import Tally

    tally = Tally(1, [(b"", range(1))], {"aa": [0.25], "bb": [0.5]}, key="")
    body = b'{"predictions":[0.25],"model":{"digest":"%s","deployment":"v1"}}'
    assert tally.wrong(200, body % b"aa", range(1)) == ""
    assert "wrong scores from v1" in tally.wrong(200, body % b"bb", range(1))
    assert tally.wrong(503, b"busy", range(1)).startswith("status 503")


@pytest.mark.parametrize("file", sorted((BENCHMARKS / "serving/requirements").glob("*.txt")), ids=lambda f: f.stem)
def test_each_list_pins_every_package_and_names_no_address(file: Path) -> None:
    for line in file.read_text().splitlines():
        assert re.match(r"[a-z0-9.\-]+(\[[a-z,]+\])?==\S+( ; .+)?$", line), line
