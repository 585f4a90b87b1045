"""``stk-ml monitor compare``: two files, no model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def compare(folder: Path, current: str) -> dict[str, object]:
    command = [sys.executable, "-m", "stk_ml", "monitor", "compare", "reference.parquet", current, "--json"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    found: dict[str, object] = json.loads(result.stdout)
    return found


def test_a_moved_column_is_drift_and_the_others_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "stk.toml").write_text('[project]\nname = "x"\n[profile.laptop]\n')
    for name, shift in (("reference", 0.0), ("moved", 1.0)):
        table = pa.table({"km": rng.normal(shift, 1, 5000), "weight": rng.normal(0, 1, 5000)})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    found = compare(tmp_path, "moved.parquet")
    assert found["verdict"] == "drift"
    answers = {column["name"]: column["verdict"] for column in found["columns"]}  # type: ignore[attr-defined]
    assert answers["km"] == "drift"
    assert answers["weight"] != "drift"
    assert compare(tmp_path, "reference.parquet")["verdict"] != "drift"
