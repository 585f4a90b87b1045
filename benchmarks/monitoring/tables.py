"""Two Parquet files to compare: 20 numbers and 5 categories, 3% of three numbers missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

NUMBERS = [f"number_{place}" for place in range(20)]
CATEGORIES = [f"category_{place}" for place in range(5)]
COLUMNS = [*NUMBERS, *CATEGORIES]
#: Different row groups of a file; a longer one repeats them.
_GROUPS, _GROUP = 4, 250_000


def write(file: Path, rows: int, seed: int) -> Path:
    """Writes a file of ``rows`` rows, in row groups of 250,000; its numbers have three decimals, which saves disk."""
    rng = np.random.default_rng(seed)
    size = min(_GROUP, rows)
    groups = [_group(rng, size) for _ in range(min(_GROUPS, -(-rows // size)))]
    with pq.ParquetWriter(file, groups[0].schema, compression="zstd") as writer:
        for place in range(-(-rows // size)):
            writer.write_table(groups[place % len(groups)].slice(0, rows - place * size))
    return file


def _group(rng: np.random.Generator, rows: int) -> pa.Table:
    columns: dict[str, pa.Array] = {}
    for place, name in enumerate(NUMBERS):
        values = np.round(rng.normal(size=rows) if place % 2 else rng.exponential(size=rows), 3)
        columns[name] = pa.array(values, mask=rng.random(rows) < 0.03 if place % 7 == 0 else None)
    for place, name in enumerate(CATEGORIES):
        names = np.array([f"value {code:02d}" for code in range(4 + 6 * place)])
        columns[name] = pa.array(names[rng.integers(0, len(names), rows)])
    return pa.table(columns)


def bins(file: Path) -> dict[str, object]:
    """Bins of about equal shares of a file's numbers, and the values of its categories."""
    table = pq.read_table(file)
    numbers = {name: table[name].drop_null().to_numpy() for name in NUMBERS}
    edges = {name: np.unique(np.quantile(of, np.arange(21) / 20)).tolist() for name, of in numbers.items()}
    return {"edges": edges, "categories": {name: sorted(set(table[name].to_pylist())) for name in CATEGORIES}}
