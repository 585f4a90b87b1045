"""The views of a folder and their order."""

from __future__ import annotations

import pytest
from small_world import header

from stk_ml.errors import DeclarationError, UnknownNameError
from stk_ml.features.catalog import Catalog


def make(folder, **reads: str) -> Catalog:  # type: ignore[no-untyped-def]
    for name, table in reads.items():
        sql = f"SELECT k, t AS event_time, t AS known_time FROM {table}"
        (folder / f"{name}.sql").write_text(header("k") + sql, "utf-8")
    return Catalog(folder)


def test_dependencies_come_first_and_raw_tables_are_found_through_views(tmp_path):
    catalog = make(tmp_path, a="curated.b", b="curated.c", c="raw.x", d="raw.y")
    assert catalog.names() == ["a", "b", "c", "d"]
    assert catalog.order(["a"]) == ["c", "b", "a"]
    assert catalog.raw_tables(["a"]) == ["raw.x"]
    assert catalog.raw_tables(catalog.names()) == ["raw.x", "raw.y"]


def test_an_unknown_view_names_the_closest(tmp_path):
    with pytest.raises(UnknownNameError) as error:
        make(tmp_path, plane="raw.x").view("plain")
    assert "did you mean 'plane'?" in error.value.hint


def test_reading_an_unknown_view_names_the_file(tmp_path):
    with pytest.raises(DeclarationError, match=r"a\.sql: reads unknown view 'curated\.plain'"):
        make(tmp_path, a="curated.plain", plane="raw.x").view("a")


def test_a_circle_is_told_as_such(tmp_path):
    with pytest.raises(DeclarationError, match=r"in a circle: .*a"):
        make(tmp_path, a="curated.b", b="curated.a").order(["a"])


def test_no_folder_and_no_sources_are_empty(tmp_path):
    catalog = Catalog(tmp_path / "none")
    assert (catalog.names(), catalog.sources) == ([], {})


@pytest.mark.parametrize(
    ("text", "line", "match"),
    [
        ("raw.x: {known: t}\nraw.y:\n  knwn: t\n", 3, "unknown key 'knwn'"),
        ("raw.x: {known: t}\ncurated.y: {known: t}\n", 2, "not a raw table"),
        ("raw.x:\n  known: t +\n", 2, "not valid SQL"),
        ("raw.x:\n  columns:\n    a: SELECT 1\n", 3, "not an expression"),
    ],
)
def test_mistakes_in_sources_are_told_with_their_line(tmp_path, text, line, match):
    (tmp_path / "sources.yml").write_text(text, "utf-8")
    with pytest.raises(DeclarationError, match=match) as error:
        _ = Catalog(tmp_path).sources
    assert error.value.line == line
