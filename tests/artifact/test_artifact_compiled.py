"""The compiled scorer: equal scores or none at all, built where it can be, loaded only from a folder of one's own."""

from __future__ import annotations

import gc
import hashlib
import logging
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from make_booster import OBJECTIVES, rows, strange, train

from stk_ml.artifact import compiled, quickscorer
from stk_ml.artifact.quickscorer import UnsupportedModelError

COMPILED = [
    *({"objective": objective} for objective in OBJECTIVES if objective != "cross_entropy_lambda"),
    {"objective": "binary", "sigmoid": 0.7},
    {"objective": "binary", "num_leaves": 2},
    {"objective": "binary", "num_leaves": 32},
    {"objective": "binary", "num_leaves": 33},
    {"objective": "binary", "num_leaves": 200, "min_data_in_leaf": 1},
    {"objective": "binary", "use_missing": False},
    {"objective": "binary", "boosting": "dart"},
    {"objective": "binary", "extra_trees": True, "max_bin": 1000},
    {"objective": "binary", "max_cat_to_onehot": 100},
    {"objective": "regression", "min_data_in_leaf": 100_000},
]
LEFT_TO_LIGHTGBM: list[dict[str, Any]] = [
    {"objective": "cross_entropy_lambda"},
    {"objective": "regression", "reg_sqrt": True},
    {"objective": "regression", "linear_tree": True},
    {"objective": "binary", "zero_as_missing": True},
    {"objective": "binary", "boosting": "rf", "bagging_fraction": 0.5, "bagging_freq": 1},
    {"objective": "multiclass", "num_class": 3},
    {"objective": "binary", "num_leaves": 600, "min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0, "max_bin": 3000},
]


def _name(parameters: dict[str, Any]) -> str:
    return "-".join(f"{key}={value}" for key, value in parameters.items()).replace("objective=", "")


@pytest.mark.parametrize("parameters", COMPILED, ids=_name)
def test_scores_equal_lightgbms_bit_by_bit(parameters: dict[str, Any], cache: Path) -> None:
    trained = train(**parameters)
    scorer = compiled.load(trained.model_to_string(), cache)
    assert scorer is not None
    beside_thresholds = compiled._made_up(quickscorer.read(trained.model_to_string()), 4000)
    for x in (rows(1000, 3), strange(1000), beside_thresholds):
        assert scorer.many(x).tobytes() == trained.predict(x).tobytes()
        assert [scorer.single(row) for row in x[:50]] == trained.predict(x[:50]).tolist()


@pytest.mark.parametrize("seed", range(8))
def test_scores_equal_on_models_of_any_shape(seed: int, cache: Path) -> None:
    random = np.random.default_rng(seed)
    n, columns = 2000, int(random.integers(1, 40))
    x = random.choice([1.0, 1e-30, 1e6, 1e30], size=columns) * random.normal(size=(n, columns))
    categories = [c for c in range(columns) if random.random() < 0.3]
    for column in categories:
        x[:, column] = random.integers(0, int(random.choice([2, 31, 32, 33, 500])), n)
    x[random.random((n, columns)) < random.choice([0.0, 0.3])] = np.nan
    y = np.nan_to_num(x[:, 0] > np.nanmedian(x[:, 0])) + random.normal(size=n)
    parameters = {
        "objective": "regression", "num_leaves": int(random.integers(2, 100)), "min_data_in_leaf": 3, "verbose": -1,
        "num_threads": 1, "seed": seed, "max_depth": int(random.choice([-1, 3])),
    }  # fmt: skip
    data = lightgbm.Dataset(x, y, categorical_feature=categories, params={"verbose": -1})
    trained = lightgbm.train(parameters, data, int(random.integers(1, 60)))
    scorer = compiled.load(trained.model_to_string(), cache)
    assert scorer is not None
    assert scorer.many(x).tobytes() == trained.predict(x).tobytes()


@pytest.mark.parametrize("parameters", LEFT_TO_LIGHTGBM, ids=_name)
def test_what_is_unusual_is_left_to_lightgbm(parameters: dict[str, Any], cache: Path) -> None:
    assert compiled.load(train(5, **parameters).model_to_string(), cache) is None


def test_a_matrix_of_another_shape_never_reaches_c(booster: lightgbm.Booster, cache: Path) -> None:
    scorer = compiled.load(booster.model_to_string(), cache)
    assert scorer is not None
    with pytest.raises(ValueError, match=r"takes \(rows, 8\)"):
        scorer.many(np.zeros((3, 7)))
    with pytest.raises(ValueError, match="out must be float64"):
        scorer.many(np.zeros((3, 8)), out=np.zeros(4))
    assert scorer.many(np.empty((0, 8))).shape == (0,)


def test_a_score_function_outlives_the_names_of_what_it_needs(booster: lightgbm.Booster, cache: Path) -> None:
    scorer = compiled.load(booster.model_to_string(), cache)
    assert scorer is not None
    row = scorer.row_scorer()
    row.buffer[:] = rows(1, 9)[0]
    score = row.score
    del scorer, row
    gc.collect()
    filler = [np.full(10_000, np.nan) for _ in range(200)]
    assert score() == booster.predict(rows(1, 9))[0]
    assert len(filler) == 200


def test_building_again_gives_the_same_file(cache: Path) -> None:
    first = compiled.build(cache)
    assert first is not None
    before = first.stat().st_mtime_ns
    assert compiled.build(cache) == first
    assert first.stat().st_mtime_ns == before
    assert {file.name for file in cache.iterdir()} == {first.name, f"{first.name}.sha256"}


def test_two_processes_may_build_at_once(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "both"
    script = (
        f"from pathlib import Path; from stk_ml.artifact import compiled; print(compiled.build(Path({str(folder)!r})))"
    )
    running = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = {process.communicate()[0].strip() for process in running}
    assert len(told) == 1
    assert {str(file).removesuffix(".sha256") for file in folder.iterdir()} == told
    assert len(list(folder.iterdir())) == 2


def test_without_a_compiler_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, booster: lightgbm.Booster
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with caplog.at_level(logging.INFO):
        assert compiled.build(tmp_path / "cache") is None
    assert "there is no C compiler" in caplog.text
    assert compiled.load(booster.model_to_string(), tmp_path / "cache") is None


def test_a_compiler_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    compiler = tmp_path / "broken cc"
    compiler.write_text(
        '#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" = -o ] && echo half > "$2"; shift; done\n'
        "echo no such flag >&2; exit 1\n"
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", f"'{compiler}' -m64")
    assert compiled.build(tmp_path / "cache") is None
    assert "no such flag" in caplog.text
    assert not list((tmp_path / "cache").iterdir())


def sign(file: Path) -> None:
    """Writes the sha256 of a library that was not built, as if it had been."""
    file.with_name(f"{file.name}.sha256").write_text(hashlib.sha256(file.read_bytes()).hexdigest())


def _public(folder: Path, file: Path) -> None:
    folder.chmod(0o755)


def _writable(folder: Path, file: Path) -> None:
    file.chmod(0o770)


def _linked(folder: Path, file: Path) -> None:
    elsewhere = file.rename(folder.parent / "elsewhere.so")
    file.symlink_to(elsewhere)


def _linked_folder(folder: Path, file: Path) -> None:
    folder.symlink_to(folder.rename(folder.parent / "real"))


def _foreign(folder: Path, file: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(file, 12345, 12345)


def _garbage(folder: Path, file: Path) -> None:
    file.chmod(0o700)
    file.write_bytes(b"\x7fELF and no more")
    sign(file)


@pytest.mark.parametrize("spoil", [_public, _writable, _linked, _linked_folder, _foreign, _garbage])
def test_a_library_that_others_could_have_put_there_is_not_loaded(
    spoil: Callable[[Path, Path], None], tmp_path: Path, cache: Path, booster: lightgbm.Booster
) -> None:
    folder = tmp_path / "native"
    shutil.copytree(cache, folder)
    (file,) = folder.glob("*.so")
    assert compiled.load(booster.model_to_string(), folder) is not None
    copy = tmp_path / "other"  # a path that this process has not loaded yet
    shutil.copytree(cache, copy)
    spoil(copy, copy / file.name)
    assert compiled.load(booster.model_to_string(), copy) is None


def _half(library: bytes) -> bytes:
    return library[: len(library) // 2]


def _zeroed(library: bytes) -> bytes:
    return library[: len(library) // 2] + bytes(len(library) - len(library) // 2)


def _empty(library: bytes) -> bytes:
    return b""


@pytest.mark.parametrize("damage", [_half, _zeroed, _empty])
def test_a_damaged_library_is_not_loaded_and_built_anew(
    damage: Callable[[bytes], bytes], tmp_path: Path, cache: Path, booster: lightgbm.Booster
) -> None:
    """In a process of its own: to load it would end the process by a signal."""
    folder = tmp_path / "native"
    shutil.copytree(cache, folder)
    (file,) = folder.glob("*.so")
    whole = file.read_bytes()
    file.chmod(0o700)
    file.write_bytes(damage(whole))
    (tmp_path / "booster.txt").write_text(booster.model_to_string())
    script = f"""
from pathlib import Path
from stk_ml.artifact import compiled
top = Path({str(tmp_path)!r})
text = (top / "booster.txt").read_text()
assert compiled.load(text, top / "native") is None
assert compiled.build(top / "native") is not None
assert compiled.load(text, top / "native") is not None
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "differs from its sha256" in done.stderr


def test_a_library_whose_sha256_is_lost_is_built_anew(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "native"
    shutil.copytree(cache, folder)
    (file,) = folder.glob("*.so")
    digest = file.with_name(f"{file.name}.sha256")
    digest.write_bytes(b"\xff")
    assert compiled.build(folder) == file
    assert digest.read_text() == hashlib.sha256(file.read_bytes()).hexdigest()


def test_another_library_is_not_used(tmp_path: Path, cache: Path, booster: lightgbm.Booster) -> None:
    folder = tmp_path / "native"
    folder.mkdir(mode=0o700)
    (name,) = (file.name for file in cache.glob("*.so"))
    (tmp_path / "other.c").write_text("int other(void) { return 1; }")
    compiler = compiled._compiler()
    assert compiler is not None
    subprocess.run([*compiler, *compiled._FLAGS, str(tmp_path / "other.c"), "-o", str(folder / name)], check=True)
    sign(folder / name)
    assert compiled.load(booster.model_to_string(), folder) is None


def test_it_is_not_built_into_a_folder_that_is_open_to_others(tmp_path: Path, cache: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    assert compiled.build(folder) is None
    assert not list(folder.iterdir())


def test_a_scorer_that_scores_otherwise_is_not_used(
    tmp_path: Path, cache: Path, booster: lightgbm.Booster, caplog: pytest.LogCaptureFixture
) -> None:
    """A compiler that contracts, or a model that the reader misreads, shows on the rows tried at load."""
    source = compiled._SOURCE.read_text()
    wrong = tmp_path / "wrong.c"
    wrong.write_text(source.replace("low[half - 1] < x", "low[half - 1] <= x").replace("(*low < x)", "(*low <= x)"))
    assert wrong.read_text() != source
    folder = tmp_path / "native"
    folder.mkdir(mode=0o700)
    (name,) = (file.name for file in cache.glob("*.so"))
    compiler = compiled._compiler()
    assert compiler is not None
    subprocess.run([*compiler, *compiled._FLAGS, str(wrong), "-o", str(folder / name), "-lm"], check=True)
    sign(folder / name)
    assert compiled.load(booster.model_to_string(), folder) is None
    assert "differ from its own" in caplog.text


def test_a_damaged_text_is_refused_or_read_and_never_scored_out_of_bounds(
    booster: lightgbm.Booster, cache: Path
) -> None:
    """LightGBM reads first, and the seal is checked before; still nothing in the text may reach beyond its arrays."""
    text, dice = booster.model_to_string(), random.Random(3)
    (file,) = cache.glob("*.so")
    numbers = [place for place, letter in enumerate(text) if letter.isdigit()]
    read = 0
    for _ in range(300):
        damaged = list(text)
        for place in dice.sample(numbers, dice.choice([1, 3, 30])):
            damaged[place] = dice.choice(["0", "7", "-", " ", "", "9999999", "e5", "nan"])
        try:
            masks = quickscorer.read("".join(damaged))
        except UnsupportedModelError:
            continue
        read += 1
        assert compiled.CompiledBooster(file, masks).many(np.zeros((2, masks.columns))).shape == (2,)
    assert read > 5


@pytest.mark.parametrize(("codes", "fits"), [(1_000, True), (6_000, False)])
def test_masks_that_would_fill_the_memory_are_refused(codes: int, fits: bool) -> None:
    words = codes // 32 + 1
    header = "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nmax_feature_idx=0\nobjective=regression\n\n"
    tree = (
        "num_leaves=2\nnum_cat=1\nsplit_feature=0\nthreshold=0\ndecision_type=1\nleft_child=-1\nright_child=-2\n"
        f"leaf_value=0 1\ncat_boundaries=0 {words}\ncat_threshold={'0 ' * (words - 1)}1\nis_linear=0\n"
    )
    text = header + "".join(f"Tree={place}\n{tree}\n" for place in range(2000)) + "\nend of trees\n"
    if fits:
        assert quickscorer.read(text).features[0].rows.nbytes < 1 << 25
    else:
        with pytest.raises(UnsupportedModelError, match="too much memory"):
            quickscorer.read(text)
