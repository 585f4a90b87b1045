"""``stk-ml monitor`` from end to end: a trained model, days of its telemetry, and what a user is told."""

from __future__ import annotations

import json
import re
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from monitored_shop import DAY, HOSTILE, MODEL, START, Change, Shop, iso, label_file, parcels, put

from stk_ml.telemetry.local import ParquetPredictionLog

#: Days without a change.
CALM = 12

Verdict = dict[str, Any]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop after calm days, all looked at."""
    shop = Shop.open(tmp_path_factory.mktemp("monitored"))
    shop.days(0, CALM)
    shop.first = shop.look(CALM, "--no-mlflow")
    return shop


@pytest.fixture
def shop(calm: Shop, tmp_path: Path) -> Shop:
    return calm.twin(tmp_path)


def km_moves(table: pa.Table) -> pa.Table:
    return put(table, "km", np.asarray(table["km"]) + 90)


def mostly(name: str, value: Any) -> Change:
    """Six of ten rows hold a value."""

    def change(table: pa.Table) -> pa.Table:
        values = [value if row % 10 < 6 else old for row, old in enumerate(table[name].to_pylist())]
        return put(table, name, values)

    return change


def events(shop: Shop) -> list[dict[str, str]]:
    table = ParquetPredictionLog(shop.folder / "telemetry").read(
        "AppEvents", since=0, until=START + 400 * DAY, names=["stk.verdict"]
    )
    return [json.loads(text) for text in table.column("Properties").to_pylist()]


def page(shop: Shop, verdict: Verdict) -> str:
    stamp = re.sub("[-:]", "", verdict["window_end"])
    return (shop.folder / "monitoring" / MODEL / "verdicts" / f"{stamp}.html").read_text("utf-8")


def column(verdict: Verdict, name: str) -> dict[str, Any]:
    return next(each for each in verdict["columns"] if each["name"] == name)


def test_nothing_is_found_on_calm_days(calm: Shop) -> None:
    assert len(calm.first) == CALM
    assert not [v["reason"] for v in calm.first if v["answer"] == "drift" or v["quality"] or v["alarm"]]


def test_a_shift_of_a_used_column_alarms_once(shop: Shop) -> None:
    shop.days(CALM, 20, km_moves)
    found = shop.look(20, "--no-mlflow")
    assert [v["answer"] for v in found] == ["drift"] * 8
    assert [v["alarm"] for v in found] == [True] + [False] * 7
    assert column(found[0], "km")["answer"] == "drift"
    assert found[0]["reason"].startswith("Moved: km by 0.5")
    told = events(shop)
    assert sorted(each["window_end"] for each in told) == [iso(day + 1) for day in range(20)]
    assert [each["window_end"] for each in told if each["alarm"] == "true"] == [iso(CALM + 1)]
    assert json.loads(next(each for each in told if each["alarm"] == "true")["drifted"]) == ["km", "score"]
    shop.days(20, 23)
    shop.days(23, 24, km_moves)
    again = shop.look(24, "--no-mlflow")
    assert [v["alarm"] for v in again] == [False, False, False, True], "a calm window arms again"


def test_a_shift_of_an_unused_column_is_shown_and_is_no_drift(shop: Shop) -> None:
    shop.days(CALM, CALM + 2, lambda table: put(table, HOSTILE, np.asarray(table[HOSTILE]) + 1))
    for verdict in shop.look(CALM + 2, "--no-mlflow"):
        assert verdict["answer"] != "drift"
        assert not verdict["alarm"]
        assert not verdict["quality"]
        assert column(verdict, HOSTILE)["answer"] == "drift"
        assert column(verdict, HOSTILE)["weight"] == 0
    text = page(shop, verdict)
    assert "the model does not use it: no reason to retrain" in text
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text


BROKEN: dict[str, tuple[Change, dict[str, Any], str, str]] = {
    "metres instead of kilometres": (lambda t: put(t, "km", np.asarray(t["km"]) * 1000), {}, "unit", "km"),
    "a column that is frozen": (lambda t: put(t, "km", np.full(t.num_rows, 150.0)), {}, "frozen", "km"),
    "a jump of missing values": (mostly("weight", None), {}, "missing", "weight"),
    "a jump of categories not seen before": (mostly("mode", "drone"), {}, "unseen", "mode"),
    "text where a number is meant": (
        lambda table: table,
        {"oddities": {("wrong_type", "km"): 200}},
        "schema",
        "km",
    ),
    "a collapse of volume": (lambda table: table, {"rows": 60}, "volume", ""),
    "telemetry that stops": (lambda table: table, {"until": 6}, "late", ""),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_data_is_no_drift_and_no_alarm(shop: Shop, name: str) -> None:
    change, options, check, about = BROKEN[name]
    shop.days(CALM, CALM + 1, change, **options)
    [verdict] = shop.look(CALM + 1, "--no-mlflow", "--fail-on-drift", code=4)
    assert (check, about) in [(each["check"], each["column"]) for each in verdict["quality"]]
    assert not verdict["alarm"]
    assert verdict["reason"].startswith("The data is broken: ")
    told = next(each for each in events(shop) if each["window_end"] == verdict["window_end"])
    assert (told["broken"], told["alarm"]) == ("true", "false")
    assert check in [each[0] for each in json.loads(told["findings"])]
    assert "Mend the data first" in page(shop, verdict)


def test_a_day_without_telemetry_is_absent(shop: Shop) -> None:
    shop.days(CALM + 1, CALM + 2)
    silent, after = shop.look(CALM + 2, "--no-mlflow")
    assert "absent" in [each["check"] for each in silent["quality"]]
    assert (silent["rows"], silent["answer"], silent["alarm"]) == (0, "insufficient", False)
    assert not after["quality"]


def test_labels_that_come_late_show_that_the_model_has_become_worse(shop: Shop, tmp_path: Path) -> None:
    """The inputs stay as they are, what they mean turns round: only labels can tell."""

    def inverted(table: pa.Table) -> pa.Table:
        return put(table, "late", 1 - np.asarray(table["late"]))

    first = [(parcels(400, 1000 + day), None) for day in range(CALM)]
    served = [*first, *shop.days(CALM, 22, inverted)]
    file = label_file(tmp_path / "early.csv", 0, served[:CALM])
    assert "4,800 labels recorded" in shop.ran("monitor", "labels", MODEL, str(file)).out
    assert "recorded already" in shop.ran("monitor", "labels", MODEL, str(file)).out
    sound = shop.look(14, "--no-mlflow")
    measured = [p for v in sound for p in v["performance"] if p["source"] == "measured"]
    assert {p["metric"] for p in measured} == {"auc", "log_loss", "brier", "calibration_error"}
    assert not any(p["worse"] for p in measured)
    label_file(tmp_path / "late.csv", CALM, served[CALM:])
    shop.ran("monitor", "labels", MODEL, str(tmp_path / "late.csv"))
    found = shop.look(22, "--no-mlflow")
    assert [v["alarm"] for v in found].count(True) == 1
    alarm = next(v for v in found if v["alarm"])
    assert alarm["answer"] != "drift"
    worse = {p["metric"]: p for p in alarm["performance"] if p["worse"]}
    assert "auc" in worse
    assert worse["auc"]["value"]["high"] < worse["auc"]["reference"]
    assert "it was" in alarm["reason"]
    assert "has become worse" in page(shop, alarm)
    # What is known only later does not count: the first day with turned labels is told a day after its end.
    assert alarm["window_end"] >= iso(CALM + 2)
    # Estimates were kept by the truth at first, and are muted once they were wrong.
    estimates = [p for p in found[-1]["performance"] if p["source"] == "estimated"]
    assert estimates
    assert all(p["muted"] for p in estimates)


def test_a_killed_run_goes_on_and_no_window_is_looked_at_twice(shop: Shop) -> None:
    shop.days(CALM, 24, km_moves)
    ends = []
    for kill_after in (1, 3):
        run = shop.started("monitor", "run", MODEL, "--now", iso(24), "--no-mlflow")
        assert run.stderr is not None
        for line in run.stderr:
            ends.append(line)
            if len(ends) >= kill_after:
                break
        run.send_signal(signal.SIGKILL)
        run.wait()
    rest = shop.look(24, "--no-mlflow")
    listed = json.loads(shop.ran("--json", "monitor", "list", MODEL, "--last", "99").out)
    assert [v["window_end"] for v in listed] == [iso(day + 1) for day in range(24)]
    assert 0 < len(rest) < 12
    assert sum(v["alarm"] for v in listed) == 1
    assert sorted(each["window_end"] for each in events(shop)) == [v["window_end"] for v in listed]
    assert all("<h1>" in page(shop, v) for v in listed)


def test_two_processes_at_once_do_not_look_at_the_same(shop: Shop) -> None:
    shop.days(CALM, CALM + 3)
    first = shop.started("monitor", "run", MODEL, "--now", iso(CALM + 3), "--no-mlflow")
    assert first.stderr is not None
    assert first.stderr.readline().startswith("looked at the window up to")
    first.send_signal(signal.SIGSTOP)
    try:
        refused = shop.ran("monitor", "run", MODEL, "--now", iso(CALM + 3), code=2)
        assert f"another process looks at {MODEL} right now" in refused.err
    finally:
        first.send_signal(signal.SIGCONT)
        first.communicate()
    assert first.returncode == 0
    assert [v["window_end"] for v in shop.look(CALM + 3)] == []


def test_what_a_run_leaves_in_mlflow_and_its_exit_code(shop: Shop) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'stk-ml[training]'")
    shop.days(CALM, CALM + 1, km_moves)
    [verdict] = shop.look(CALM + 1, "--fail-on-drift", code=3)
    client = mlflow.MlflowClient(f"sqlite:///{shop.project}/.stk/mlflow.db")
    experiment = client.get_experiment_by_name(f"{MODEL}-monitoring")
    [run] = client.search_runs([experiment.experiment_id])
    assert run.data.tags["stk_ml.answer"] == "drift"
    assert run.data.metrics["effect.km"] == pytest.approx(column(verdict, "km")["effect"]["value"])
    kept = Path(client.download_artifacts(run.info.run_id, "", str(shop.folder)))
    assert json.loads((kept / "verdict.json").read_text()) == verdict
    assert (kept / "report.html").read_text("utf-8") == page(shop, verdict)


def test_reports_and_lists_on_demand(shop: Shop, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    done = json.loads(shop.ran("--json", "monitor", "report", MODEL, "--out", str(out)).out)
    assert (done["report"], done["verdict"]) == (str(out), shop.first[-1])
    assert out.read_text("utf-8") == page(shop, shop.first[-1])
    assert iso(CALM)[:10] in shop.ran("monitor", "list", MODEL, "--last", "1").out
    missed = shop.ran("monitor", "report", MODEL, "--window-end", "2030-01-01", code=2)
    assert f"did you mean '{iso(CALM)}'" in missed.err or iso(CALM) in missed.err
    waits = shop.ran("monitor", "run", MODEL, "--now", iso(CALM + 0.5)).out
    assert f"can be looked at from {iso(CALM + 1)[:10]} 00:00:00 UTC on" in waits


def test_a_model_that_nobody_has_called(calm: Shop, tmp_path: Path) -> None:
    idle = Shop(calm.project, tmp_path, calm.artifact)
    assert "holds no telemetry of it" in idle.ran("monitor", "run", MODEL).out
    assert json.loads(idle.ran("--json", "monitor", "run", MODEL).out) == []
    assert f"stk-ml monitor run {MODEL}" in idle.ran("monitor", "list", MODEL).out
    assert "nobody has looked" in idle.ran("monitor", "report", MODEL, code=2).err
    assert "unknown model 'late-parsel'" in idle.ran("monitor", "run", "late-parsel", code=2).err
    assert "write 2013-07-01" in idle.ran("monitor", "run", MODEL, "--now", "yesterday", code=2).err


@pytest.mark.parametrize(
    ("rows", "code", "said"),
    [
        ("P0-1,1,2024-05-02\n", 0, "1 label recorded"),
        ("P0-1,1,2024-05-02T10:00:00+02:00\nP0-2,0,2024-05-03T10:00:00Z\n", 0, "2 labels recorded"),
        ("P0-1,7,2024-05-02\n", 1, "neither 0 nor 1: 7"),
        ("P0-1,late,2024-05-02\n", 1, "neither 0 nor 1: late"),
        ("P0-1,,2024-05-02\n", 1, "an outcome that is no finite number"),
        (",1,2024-05-02\n", 1, "have no prediction_id"),
        ("P0-1,1,soon\n", 2, "soon"),
        ("P0-1,1,2999-01-01\n", 1, "known only after now"),
    ],
)
def test_labels_good_and_bad(shop: Shop, tmp_path: Path, rows: str, code: int, said: str) -> None:
    file = tmp_path / "labels.csv"
    file.write_text(f"row_id,outcome,known_time\n{rows}")
    done = shop.ran("monitor", "labels", MODEL, str(file), code=code)
    assert said in done.out + done.err


def test_labels_from_parquet_and_from_no_file(shop: Shop, tmp_path: Path) -> None:
    known = pa.array([datetime(2024, 5, 3, tzinfo=UTC)] * 2, pa.timestamp("us", "UTC"))
    table = pa.table({"request_id": ["q0-0"] * 2, "row": [0, 1], "outcome": [True, False], "known_time": known})
    pq.write_table(table, tmp_path / "labels.parquet")
    done = json.loads(shop.ran("--json", "monitor", "labels", MODEL, str(tmp_path / "labels.parquet")).out)
    assert (done["rows"], done["again"]) == (2, False)
    assert "is no file" in shop.ran("monitor", "labels", MODEL, "gone.csv", code=2).err


def test_labels_tell_how_many_predictions_they_name(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "labels.csv"
    file.write_text("row_id,outcome,known_time\nP0-1,1,2024-05-13\nP11-399,1,2024-05-13\nnobody,0,2024-05-13\n")
    assert (
        "2 predictions that the log holds so far are named by them"
        in shop.ran("monitor", "labels", MODEL, str(file)).out
    )
    file.write_text("request_id,row,outcome,known_time\nother,0,1,2024-05-13\n")
    said = shop.ran("monitor", "labels", MODEL, str(file)).out
    assert "0 predictions that the log holds so far are named by them" in said
    assert "none of them: labels name a prediction by its row_id" in said
    assert json.loads(shop.ran("--json", "monitor", "labels", MODEL, str(file)).out)["matched"] == 0
    file.write_text("row_id,outcome,known_time\n")
    empty = shop.ran("monitor", "labels", MODEL, str(file)).out
    assert "holds a header and no labels" in empty
    assert "recorded" not in empty


def test_calibrate_tells_false_alarms_and_what_would_be_seen(shop: Shop) -> None:
    text = shop.ran("monitor", "calibrate", MODEL).out
    measured = re.search(
        r"false alarms per year +([\d.]+) \(95%: ([\d.]+) to ([\d.]+)\), declared 0.5: not refuted", text
    )
    assert measured
    assert float(measured[2]) <= float(measured[1]) <= float(measured[3])
    assert "100 windows of 1d without drift" in text
    assert re.search(r"km +0.4 +100% +100% +100% +100%", text)
    kept = json.loads((shop.folder / "monitoring" / MODEL / "calibration.json").read_text())
    assert kept["declared"] == 0.5
    assert "the other half is the joint view's" in text
    assert "levels of their own" in " ".join(shop.ran("monitor", "calibrate", "--help", code=0).out.split())
    assert {each["column"] for each in kept["power"]} == {"km", "mode", "score"}


def test_the_columns_are_looked_at_together_unless_it_is_said_not_to(shop: Shop) -> None:
    assert shop.first[-1]["joint"] in ("stable", "insufficient")
    shop.days(CALM, CALM + 1)
    [alone] = shop.look(CALM + 1, "--no-mlflow", "--no-joint")
    assert alone["joint"] is None
