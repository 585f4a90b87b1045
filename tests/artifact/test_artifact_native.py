"""LightGBM's C API gives the scores of its Python package, and lets go of what it holds."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa
import pytest
from make_booster import LEVELS, OBJECTIVES, rows, strange, train

from stk_ml.artifact.native import NativeBooster
from stk_ml.errors import ArtifactError


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_gives_the_scores_of_the_python_package_bit_by_bit(objective: str) -> None:
    trained = train(objective=objective)
    native = NativeBooster(trained.model_to_string())
    for x in (rows(500, 3), strange(500)):
        assert native.many(x).tobytes() == trained.predict(x).tobytes()
        assert [native.single(row) for row in x[:50]] == trained.predict(x[:50]).tolist()


@pytest.mark.parametrize("missing", [{}, {"zero_as_missing": True}, {"use_missing": False}])
def test_minus_one_nan_and_a_null_code_are_the_same_unseen_category(missing: dict[str, bool]) -> None:
    trained = train(objective="binary", **missing)
    native = NativeBooster(trained.model_to_string())
    x = rows(400, 4)
    for column in LEVELS:
        unseen, nan = x.copy(), x.copy()
        unseen[:, column], nan[:, column] = -1.0, np.nan
        table = pa.table({str(i): pa.array(nan[:, i].tolist(), pa.float64(), from_pandas=True) for i in range(8)})
        assert native.many(unseen).tobytes() == native.many(nan).tobytes() == trained.predict(nan).tobytes()
        codes = table.set_column(column, str(column), pa.nulls(len(x), pa.int32()))
        assert native.many(unseen).tobytes() == trained.predict(codes).tobytes()


def test_contributions_are_those_of_the_python_package_and_add_up(booster: lightgbm.Booster) -> None:
    native, x = NativeBooster(booster.model_to_string()), rows(60, 3)
    values = native.contributions(x)
    assert values.tobytes() == booster.predict(x, pred_contrib=True).tobytes()
    assert np.allclose(1 / (1 + np.exp(-values.sum(axis=1))), native.many(x))


def test_scores_go_where_the_caller_wants_them_and_no_row_is_fine(booster: lightgbm.Booster) -> None:
    native, x = NativeBooster(booster.model_to_string()), rows(10, 3)
    out = np.zeros(10)
    assert native.many(x, out=out) is out
    assert out.tolist() == native.many(np.asfortranarray(x), threads=2).tolist()
    assert native.many(np.empty((0, 8))).shape == (0,)
    assert native.contributions(np.empty((0, 8))).shape == (0, 9)


def test_a_matrix_or_result_of_another_shape_never_reaches_c(booster: lightgbm.Booster) -> None:
    native = NativeBooster(booster.model_to_string())
    for wrong in (np.zeros((3, 7)), np.zeros(8), np.zeros((3, 9))):
        with pytest.raises(ValueError, match=r"takes \(rows, 8\)"):
            native.many(wrong)
        with pytest.raises(ValueError, match=r"takes \(rows, 8\)"):
            native.contributions(wrong)
    for wrong in (np.zeros(2), np.zeros(3, dtype=np.float32), np.zeros(6)[::2]):
        with pytest.raises(ValueError, match="out must be float64"):
            native.many(np.zeros((3, 8)), out=wrong)
    with pytest.raises(ValueError, match="broadcast"):
        native.single(np.zeros(9))


@pytest.mark.parametrize("text", ["", "tree\nversion=v4\n", "no model at all", "\0"])
def test_what_is_no_model_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError, match="the text is not a LightGBM model"):
        NativeBooster(text)


def test_a_file_is_named_when_it_cannot_be_read_or_has_several_outputs(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"absent\.txt cannot be read"):
        NativeBooster.read(tmp_path / "absent.txt")
    (tmp_path / "m.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ArtifactError, match=r"m\.txt cannot be read"):
        NativeBooster.read(tmp_path / "m.txt")
    (tmp_path / "m.txt").write_text(train(2, objective="multiclass", num_class=3).model_to_string())
    with pytest.raises(ArtifactError, match=r"m\.txt is a model of 3 classes"):
        NativeBooster.read(tmp_path / "m.txt")


def test_a_score_function_outlives_the_names_of_what_it_needs(booster: lightgbm.Booster) -> None:
    row = rows(1, 9)
    scorer = NativeBooster(booster.model_to_string()).row_scorer()
    scorer.buffer[:] = row[0]
    score = scorer.score
    del scorer
    gc.collect()
    churn = [NativeBooster(booster.model_to_string()).row_scorer().score() for _ in range(20)]
    assert score() == booster.predict(row)[0]
    assert len(set(churn)) == 1


def test_each_thread_scores_with_its_own_scorer(booster: lightgbm.Booster) -> None:
    native, x = NativeBooster(booster.model_to_string()), rows(2000, 3)
    expected, found = booster.predict(x).tolist(), {}

    def work(name: int) -> None:
        scorer, scores = native.row_scorer(), []
        for row in x:
            scorer.buffer[:] = row
            scores.append(scorer.score())
        found[name] = scores == expected and native.many(x).tolist() == expected

    threads = [threading.Thread(target=work, args=(name,)) for name in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: True, 1: True, 2: True}


def test_other_python_threads_run_while_a_batch_is_scored(booster: lightgbm.Booster) -> None:
    native, x = NativeBooster(booster.model_to_string()), np.tile(rows(2000, 3), (40, 1))
    thread = threading.Thread(target=native.many, args=(x,))
    beats = 0
    thread.start()
    while thread.is_alive():
        beats += 1
    assert beats > 1000


def test_memory_does_not_grow_when_models_come_and_go(booster: lightgbm.Booster, tmp_path: Path) -> None:
    (tmp_path / "m.txt").write_text(booster.model_to_string())
    script = f"""
import gc, pathlib
from stk_ml.artifact.native import NativeBooster
def megabytes():
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
def once(n):
    for _ in range(n):
        booster = NativeBooster.read(pathlib.Path({str(tmp_path / "m.txt")!r}))
        booster.row_scorer().score()
    gc.collect()
once(100)
before = megabytes()
once(300)
print(megabytes() - before)
"""
    if not Path("/proc/self/statm").exists():
        pytest.skip("needs Linux's /proc")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 5
