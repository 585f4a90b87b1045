"""A view's file: what is read from it, and what is refused, with file and line."""

from __future__ import annotations

import pytest
from small_world import header

from stk_ml.errors import DeclarationError
from stk_ml.features.view import read_view

GOOD = (
    header("tailnum", "--   seats: {type: integer, minimum: 1}\n")
    + """
WITH old AS (SELECT * FROM raw.planes)
SELECT tailnum, t AS event_time, t AS known_time, seats FROM old JOIN curated.fleet USING (tailnum)
"""
)


def refused(write_view, text: str, match: str, name: str = "some") -> DeclarationError:  # type: ignore[no-untyped-def]
    with pytest.raises(DeclarationError, match=match) as error:
        read_view(write_view(text, name))
    return error.value


def test_header_columns_tables_and_digest_are_read(write_view):
    view = read_view(write_view(GOOD, "plane"))
    assert (view.name, view.entity, view.owner) == ("plane", ("tailnum",), "tests")
    assert view.depends == ("curated.fleet", "raw.planes")
    assert [(c.name, c.type, c.minimum) for c in view.columns] == [("seats", "integer", 1)]
    assert view.digest != read_view(write_view(GOOD.replace("minimum: 1", "minimum: 2"))).digest
    assert view.digest != read_view(write_view(GOOD.replace("seats FROM", "seats  FROM"))).digest


@pytest.mark.parametrize(
    ("old", "new", "line", "match"),
    [
        ("-- owner: tests", "-- ownr: tests", 2, "unknown key 'ownr'"),
        ("-- owner: tests\n", "", 1, "the key 'owner' is missing"),
        ("minimum: 1", "minimum: one", 7, "minimum: expected `float"),
        ("type: integer", "type: int", 7, "type: invalid enum value 'int'"),
        ("type: integer, minimum: 1", "type: category, minimum: 1", 7, "has a range but is a category"),
        ("minimum: 1", "minimum: 9, maximum: 3", 7, "minimum of 'seats' is above its maximum"),
        ("minimum: 1", "categories: [a]", 7, "has categories but is a integer"),
        ("--   seats:", "--   sets:", 7, "no column 'sets'"),
        ("-- known_time: known_time", "-- known_time: knwn", 5, "no column 'knwn'"),
        ("[tailnum]", "[]", 3, "entity names no column"),
        ("raw.planes", "planes", 9, "unknown table 'planes'"),
        ("raw.planes", "other.planes", 9, "unknown table 'other.planes'"),
        ("raw.planes", "read_csv('x.csv')", 9, "unknown table"),
        ("FROM old", "FROM FROM old", 10, "not valid SQL"),
        ("seats FROM", "seats, seats FROM", None, "gives 'seats' twice"),
    ],
)
def test_mistakes_are_told_with_their_line(write_view, old, new, line, match):
    assert old in GOOD
    error = refused(write_view, GOOD.replace(old, new), match)
    assert line is None or error.line == line


@pytest.mark.parametrize(
    ("sql", "match"),
    [
        ("SELECT 1; SELECT 2", "holds 2 statements"),
        ("", "holds 0 statements"),
        ("DELETE FROM raw.x", "is a DELETE, not a SELECT"),
        ("SELECT 'open", "not valid SQL"),
    ],
)
def test_a_view_is_exactly_one_select(write_view, sql, match):
    refused(write_view, header("k") + sql, match)


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("now()", "now"),
        ("current_timestamp", "current_timestamp"),
        ("current_date", "current_date"),
        ("today()", "current_date"),
        ("random()", "random"),
        ("uuid()", "uuid"),
        ("approx_quantile(x, 0.5)", "approx_quantile"),
        ("approx_count_distinct(x)", "approx_count_distinct"),
        ("date_diff('day', a, b)", "date_diff"),
        ("datediff('day', a, b)", "date_diff"),
        ("extract(dow FROM a)", "extract"),
        ("date_part('dow', a)", "date_part"),
    ],
)
def test_what_is_not_reproducible_or_portable_is_refused_by_name(write_view, expression, name):
    sql = f"SELECT k, t AS event_time, t AS known_time,\n  {expression} AS x\nFROM raw.y"
    error = refused(write_view, header("k") + sql, name)
    assert error.hint


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        (
            "SELECT k, t AS event_time, t AS known_time FROM raw.y ASOF JOIN raw.z ON y.k = z.k AND y.t >= z.t",
            "an ASOF join",
        ),
        ("SELECT k, t AS event_time, t AS known_time FROM raw.y USING SAMPLE 10%", "sampling"),
    ],
)
def test_asof_joins_and_samples_are_refused(write_view, sql, name):
    refused(
        write_view,
        header("k") + sql,
        f"{name} is not allowed",
    )


def test_a_file_without_header_and_a_bad_name_are_refused(write_view):
    refused(write_view, "SELECT 1", "the header is missing")
    refused(write_view, GOOD, "no name of a view", name="Bad-Name")
