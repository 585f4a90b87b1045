"""From a table to an endpoint that answers, with the commands that a user types."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from stk_command import Run, answer


def score(url: str, key: str) -> dict[str, object]:
    body = json.dumps({"data": [{"distance": 800.0, "carrier": "west", "weight": 1.5, "hours": 30.0}]}).encode()
    headers = {"x-api-key": key, "content-type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/score", body, headers), timeout=20) as response:
        found: dict[str, object] = json.loads(response.read())
        return found


@pytest.mark.slow
def test_a_trained_table_is_served_by_alias_deployed_and_removed(shop: Path, stk: Run) -> None:
    trained = answer(stk("--json", "train", "--table", "shop.csv", "--target", "late", "--time", "day"))
    name = trained["model"]

    command = [sys.executable, "-m", "stk_ml", "serve", f"{name}@champion", "--port", "0"]
    server = subprocess.Popen(command, cwd=shop, env=dict(os.environ), stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        url = next(found[1] for line in server.stderr if (found := re.search(r"(http://\S+?)/score", line)))
        key = stk("endpoint", "keys", name, "--show", "primary").stdout.strip()
        served = score(url, key)
        assert served["model"]["version"] == "1"  # type: ignore[index]
    finally:
        server.terminate()
        assert server.wait(30) == 0
        server.stderr.close()

    stk("deploy", name)
    try:
        status = answer(stk("--json", "endpoint", "status", name))
        deployed = score(status["url"], stk("endpoint", "keys", name, "--show", "primary").stdout.strip())
        assert deployed["predictions"] == served["predictions"]
        assert deployed["model"]["deployment"] == "v1"  # type: ignore[index]
        rows = stk("score", f"{name}:1", "shop.csv", "--out", "scored.csv")
        assert "3,000" in rows.stdout + rows.stderr
    finally:
        stk("endpoint", "delete", name)
    assert answer(stk("--json", "endpoint", "status")) == []
