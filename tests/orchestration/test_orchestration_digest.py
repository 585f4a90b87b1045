"""Digests depend on names and contents only, and unchanged files are not read twice."""

from __future__ import annotations

import json
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stk_ml.orchestration import digest
from stk_ml.orchestration.digest import Digests, code_ignore, ignoring

segment = st.from_regex(r"[a-z]{1,4}", fullmatch=True)
trees = st.dictionaries(st.lists(segment, min_size=1, max_size=3).map("/".join), st.binary(max_size=20), max_size=6)


def lay_out(folder, tree):
    for name, content in tree.items():
        file = folder / name
        if any(part.is_file() for part in file.parents) or file.is_dir():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


@settings(max_examples=30, deadline=None)
@given(tree=trees)
def test_equal_trees_have_equal_digests_wherever_they_are(tree, tmp_path_factory):
    one, two = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    lay_out(one, tree)
    lay_out(two, tree)
    assert Digests().folder(one) == Digests().folder(two)
    (two / "new").write_text("x")
    assert Digests().folder(one) != Digests().folder(two)


@given(st.dictionaries(st.text(), st.text()))
def test_a_digest_of_data_does_not_depend_on_the_order_of_keys(data):
    assert digest.canonical(data) == digest.canonical(dict(reversed(data.items())))


def test_the_index_spares_reading_and_notices_changes(tmp_path):
    file = tmp_path / "data.csv"
    file.write_text("one")
    old = time.time() - 100
    os.utime(file, (old, old))
    index = tmp_path / "digests.json"
    digests = Digests(index)
    first = digests.file(file)
    digests.save()
    # Changed less than two seconds ago (its ctime is now): it is not remembered.
    assert not index.exists()
    time.sleep(2.1)
    digests.file(file)
    digests.save()
    known = json.loads(index.read_text())
    known[str(file)][3] = "from the index"
    index.write_text(json.dumps(known))
    assert Digests(index).file(file) == "from the index"
    file.write_text("two")
    os.utime(file, (old, old))
    assert Digests(index).file(file) not in (first, "from the index")


def test_a_broken_index_is_forgotten(tmp_path):
    (tmp_path / "digests.json").write_text("{")
    (tmp_path / "a").write_text("a")
    assert Digests(tmp_path / "digests.json").file(tmp_path / "a") == digest.text("a")


def test_a_delta_table_is_digested_by_its_newest_commit(tmp_path):
    log = tmp_path / "lake" / "flights" / "_delta_log"
    log.mkdir(parents=True)
    (log / f"{0:020}.json").write_text("{}")
    (tmp_path / "lake" / "flights" / "part-0.parquet").write_bytes(b"1")
    before = Digests().folder(tmp_path / "lake")
    (tmp_path / "lake" / "flights" / "part-0.parquet").write_bytes(b"a leftover that no commit names")
    assert Digests().folder(tmp_path / "lake") == before
    (log / f"{1:020}.json").write_text("{}")
    assert Digests().folder(tmp_path / "lake") != before


def test_links_are_followed_and_loops_are_not(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").write_text("a")
    (tmp_path / "data" / "loop").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "b").symlink_to("a")
    assert list(Digests().files(tmp_path / "data")) == ["a", "b"]


def test_amlignore_wins_over_gitignore(tmp_path):
    (tmp_path / ".gitignore").write_text("a.txt\n")
    assert code_ignore(tmp_path)("a.txt", False)
    (tmp_path / ".amlignore").write_text("b.txt\n")
    assert not code_ignore(tmp_path)("a.txt", False)
    assert code_ignore(tmp_path)("b.txt", False)
    assert code_ignore(tmp_path)("x/__pycache__", True)


PATTERNS = [
    "*.csv",
    "!keep.csv",
    "/top",
    "build/",
    "a/b",
    "**/deep",
    "docs/**",
    "x?.py",
    "[ab].txt",
    "# note",
    "",
    "\\#h",
]
NAMES = [
    *("a.csv", "keep.csv", "d/keep.csv", "d/a.csv", "top", "d/top", "a/b", "d/a/b", "deep", "d/e/deep", "docs/x/y"),
    *("x1.py", "x12.py", "a.txt", "c.txt", "#h", "builds", "d/x1.py"),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", NAMES)
def test_patterns_mean_what_git_means(name):
    pathspec = pytest.importorskip("pathspec", reason="pip install pathspec")
    spec = pathspec.PathSpec.from_lines("gitwildmatch", PATTERNS)  # what azure-ai-ml uses
    assert ignoring(PATTERNS)(name, False) == spec.match_file(name)
