"""``stk-ml trace``: from an answer's request id back to the tables, and where and why the chain ends."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from stk_ml.lake.lake import Lake

pytest.importorskip("fastapi", reason="pip install 'stk-ml[serving]'")
pytestmark = pytest.mark.slow

Trace = Callable[..., dict[str, Any]]


def stk(folder: Path, *words: str, code: int = 0, **environ: str) -> str:
    command = [sys.executable, "-m", "stk_ml", *words]
    result = subprocess.run(command, cwd=folder, env={**os.environ, **environ}, capture_output=True, text=True)
    assert result.returncode == code, f"{result.returncode}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def orders(rows: int = 1500) -> pa.Table:
    draw = random.Random(5)
    distance = [draw.uniform(1, 900) for _ in range(rows)]
    return pa.table(
        {
            "day": [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(hours=3 * index) for index in range(rows)],
            "distance": distance,
            "late": [int(draw.random() < value / 900) for value in distance],
        }
    )


class Served:
    """A project with a trained model, and what its server answered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "stk.toml").write_text('[project]\nname = "shop"\n[profile.laptop]\nlake = "lake"\n')
        self.table = Lake(str(folder / "lake")).table("raw.orders")
        self.table.append(orders())
        trained = ["train", "--table", "raw.orders", "--target", "late", "--time", "day"]
        self.model = json.loads(stk(folder, "--json", *trained))["model"]
        self.ids: dict[str, str] = {}

    def serve(self, what: str, **bodies: Any) -> None:
        """Serves a model, and notes the request ids of the answers to some bodies by name."""
        flags = ["--port", "0", "--auth", "none", "--flush", "0.2", "--no-compile"]
        command = [sys.executable, "-m", "stk_ml", "serve", what, *flags]
        server = subprocess.Popen(command, cwd=self.folder, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            url = next(found[1] for line in server.stderr if (found := re.search(r"(http://\S+?)/score", line)))
            for name, body in bodies.items():
                self.ids[name] = _score(url, {"data": body})
        finally:
            server.terminate()
            assert server.wait(30) == 0
            server.stderr.close()


def _score(url: str, body: Any) -> str:
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"{url}/score", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return str(json.loads(response.read())["request_id"])
    except urllib.error.HTTPError as error:
        with error:
            return str(json.loads(error.read())["error"]["request_id"])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    found = Served(tmp_path_factory.mktemp("trace"))
    row = {"distance": 100.0}
    found.serve(f"{found.model}@champion", one=[row], three=[row, {"distance": 500.0}, row], bad=[{"distance": "far"}])
    return found


@pytest.fixture
def trace(served: Served) -> Trace:
    def trace(name: str, *words: str, code: int = 0, **environ: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(
            stk(served.folder, "--json", "trace", served.ids.get(name, name), *words, code=code, **environ)
        )
        return found

    return trace


LINKS = ["request", "prediction", "deployment", "model version", "run", "features", "raw tables"]


def test_the_whole_chain(served: Served, trace: Trace) -> None:
    found = trace("one")
    assert [link["name"] for link in found["links"]] == LINKS
    assert (found["complete"], found["ends"]) == (True, "")
    facts = {link["name"]: link["facts"] for link in found["links"]}
    shown = json.loads(stk(served.folder, "--json", "models", "show", served.model))
    assert facts["prediction"]["rows"] == 1
    assert 0 < facts["prediction"]["scores"][0]["score"] < 1
    assert facts["model version"]["version"] == 1
    assert facts["model version"]["digest"] == shown["version"]["digest"]
    assert facts["run"]["run"] == shown["version"]["run_id"]
    assert facts["run"]["gate.outcome"] == "first"
    assert facts["features"]["digest"] == shown["tags"]["data.digest"]
    pinned = served.table.pinned(0)
    assert facts["raw tables"] == {"raw.orders": {"version": 0, "digest": pinned.digest, "now": "as it was"}}


def test_what_people_read(served: Served) -> None:
    text = stk(served.folder, "trace", served.ids["one"])
    places = [text.index(f"\n{name}" if place else name) for place, name in enumerate(LINKS)]
    assert places == sorted(places)
    assert f"model: {served.model}" in text
    assert "raw.orders: version 0" in text


def test_a_request_that_was_refused_says_so(trace: Trace) -> None:
    found = trace("bad", code=1)
    assert [link["name"] for link in found["links"]] == ["request", "prediction"]
    assert found["links"][0]["facts"]["status"] == 422
    assert found["ends"].startswith("the request was not scored: ")


def test_an_id_that_nobody_has_seen(served: Served, trace: Trace, tmp_path: Path) -> None:
    assert "no such request" in trace("0123456789", code=1)["ends"]
    assert "no such request" in trace("one", "--since", "2099-01-01", code=1)["ends"]
    assert "there is no log" in trace("one", code=1, STK_ML_TELEMETRY=str(tmp_path / "none"))["ends"]
    assert "'\"" not in stk(served.folder, "trace", 'it\'s "odd" | union *', code=1)


def test_a_registry_that_does_not_know_the_model(trace: Trace, tmp_path: Path) -> None:
    found = trace("one", code=1, STK_ML_TRACKING_URI=f"sqlite:///{tmp_path}/other.db")
    assert found["links"][-1]["name"] == "model version"
    assert "the registry has no model" in found["ends"]


def test_a_model_served_from_a_folder_is_found_by_its_digest(served: Served, trace: Trace) -> None:
    folder = json.loads(stk(served.folder, "--json", "models", "show", served.model))["where"]
    served.serve(folder.removeprefix("file://"), by_folder=[{"distance": 7.0}])
    found = trace("by_folder")
    assert found["complete"]
    assert found["links"][3]["facts"]["version"] == 1


def test_tables_that_were_changed_since(served: Served, trace: Trace, tmp_path: Path) -> None:
    """Newer versions of a table do no harm; one that is gone is told."""
    served.table.append(orders(10))
    found = trace("three")
    assert found["complete"]
    first, second, third = (each["score"] for each in found["links"][1]["facts"]["scores"])
    assert first == third != second
    lake = tmp_path / "lake"
    shutil.copytree(served.folder / "lake", lake)
    shutil.rmtree(lake / "raw" / "orders")
    found = trace("one", code=1, STK_ML_LAKE=str(lake))
    assert found["links"][-1]["name"] == "raw tables"
    assert found["ends"] == "not as they were any more: raw.orders"
