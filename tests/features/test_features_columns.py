"""Column contracts: each broken rule names the column, the count and examples."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.dataset
import pytest

from stk_ml.contracts import Column
from stk_ml.errors import ColumnContractError
from stk_ml.features.columns import check_columns, raise_broken
from stk_ml.features.world import World

TABLE = pa.table(
    {
        "n": pa.array([1.0, None, float("nan"), 7.0]),
        "i": pa.array([1, 2, 3, None]),
        "c": pa.array(["a", "b", None, "it's"]),
        "b": pa.array([True, False, True, None]),
    }
)


@pytest.fixture
def world():
    with World(threads=1) as made:
        made.expose("curated.t", pyarrow.dataset.dataset(TABLE))
        yield made


@pytest.mark.parametrize(
    ("column", "rule", "rows"),
    [
        (Column("n", "number"), None, 0),
        (Column("n", "number", minimum=1, maximum=7), None, 0),
        (Column("n", "number", minimum=2), "range", 1),
        (Column("n", "number", maximum=6.5), "range", 1),
        (Column("n", "number", nullable=False), "null", 2),
        (Column("n", "integer"), "type", 4),
        (Column("i", "number", minimum=2), "range", 1),
        (Column("i", "integer", nullable=False), "null", 1),
        (Column("c", "category", categories=("a", "b", "it's")), None, 0),
        (Column("c", "category", categories=("a",)), "category", 2),
        (Column("c", "number"), "type", 4),
        (Column("b", "boolean"), None, 0),
        (Column("gone", "number"), "type", 4),
    ],
)
def test_each_rule(world, column, rule, rows):
    findings = check_columns(world, "curated.t", [column], where="t")
    assert [(f.rule, f.rows, f.checked) for f in findings if f.rows] == ([(rule, rows, 4)] if rule else [])


def test_the_error_names_all_columns_with_counts_and_examples(world):
    columns = [Column("n", "number", minimum=2), Column("c", "category", categories=("a",))]
    with pytest.raises(ColumnContractError) as error:
        raise_broken(check_columns(world, "curated.t", columns, where="t"))
    message = str(error.value)
    assert "column t.n: range: 1 of 4 rows (allowed 2..; found '1.0' (1 rows))" in message
    assert "column t.c: category: 2 of 4 rows" in message
    assert '"it\'s" (1 rows)' in message


def test_an_absent_column_is_told_even_of_an_empty_table():
    with World(threads=1) as empty:
        empty.expose("curated.t", pyarrow.dataset.dataset(TABLE.slice(0, 0)))
        with pytest.raises(ColumnContractError, match="is absent, declared number"):
            raise_broken(check_columns(empty, "curated.t", [Column("gone", "number")], where="t"))
