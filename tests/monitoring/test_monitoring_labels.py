import os
import signal
import subprocess
import sys
import textwrap
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stk_ml.errors import LabelError, StorageError, UsageError
from stk_ml.monitoring.labels import LabelLedger, attach, prediction_ids, read_labels

NOW = datetime(2013, 8, 1, tzinfo=UTC)


def _labels(ids, outcomes, known=None):
    times = [NOW - timedelta(days=1)] * len(ids) if known is None else known
    return pa.table(
        {"prediction_id": ids, "outcome": outcomes, "known_time": pa.array(times, pa.timestamp("us", "UTC"))}
    )


def test_the_label_known_last_counts_whatever_the_order_of_recording(tmp_path):
    ledger = LabelLedger(tmp_path / "labels")
    ledger.record(_labels(["a#0"], [1.0], [NOW]), now=NOW)
    ledger.record(_labels(["a#0", "b#0"], [0.0, 0.0]), now=NOW + timedelta(hours=1))
    known = ledger.known(NOW + timedelta(days=1))
    assert known.column("outcome").to_pylist() == [1.0, 0.0]
    assert known.column("records").to_pylist() == [2, 1]
    assert ledger.known(NOW - timedelta(hours=1)).column("outcome").to_pylist() == [0.0, 0.0]
    assert ledger.known(NOW - timedelta(days=2)).num_rows == 0


def test_of_two_labels_known_at_the_same_time_the_one_recorded_later_counts(tmp_path):
    ledger = LabelLedger(tmp_path)
    ledger.record(_labels(["a#0"], [1.0]), now=NOW)
    ledger.record(_labels(["a#0"], [0.0]), now=NOW + timedelta(seconds=1))
    assert ledger.known(NOW).column("outcome").to_pylist() == [0.0]


def test_the_same_labels_recorded_again_change_nothing(tmp_path):
    ledger = LabelLedger(tmp_path)
    first = ledger.record(_labels(["a#0"], [1.0]), now=NOW)
    second = ledger.record(_labels(["a#0"], [1.0]), now=NOW + timedelta(days=1))
    assert (first.again, second.again, second.file) == (False, True, first.file)
    assert ledger.known(NOW).column("records").to_pylist() == [1]


def test_a_ledger_without_labels_knows_nothing(tmp_path):
    found = LabelLedger(tmp_path / "none").known(NOW)
    assert found.column_names == ["prediction_id", "outcome", "known_time", "records"]
    assert found.num_rows == 0


@pytest.mark.parametrize(
    ("ids", "outcomes", "known", "message"),
    [
        (["a", ""], [1.0, 0.0], None, "1 of 2 labels have no prediction_id, the first in row 1"),
        (["a", None], [1.0, 0.0], None, "have no prediction_id"),
        (["a", "b"], [np.nan, 0.0], None, "no finite number, the first in row 0"),
        (["a", "b"], [1.0, None], None, "no finite number, the first in row 1"),
        (["a", "b"], [1.0, np.inf], None, "no finite number"),
        (["a", "b"], [1.0, 0.0], [NOW, None], "have no known_time"),
        (["a", "b"], [1.0, 0.0], [NOW, NOW + timedelta(days=1)], "known only after now, the first in row 1"),
    ],
)
def test_a_broken_label_refuses_all_and_leaves_nothing(tmp_path, ids, outcomes, known, message):
    ledger = LabelLedger(tmp_path / "labels")
    with pytest.raises(LabelError, match=message):
        ledger.record(_labels(ids, outcomes, known), now=NOW)
    assert not (tmp_path / "labels").exists()


def test_a_missing_or_wrong_column_is_named(tmp_path):
    ledger = LabelLedger(tmp_path)
    with pytest.raises(UsageError, match="lack the column 'known_time'"):
        ledger.record(_labels(["a"], [1.0]).drop_columns("known_time"), now=NOW)
    with pytest.raises(UsageError, match="another type"):
        ledger.record(_labels(["a"], ["late"]), now=NOW)


def test_booleans_integers_and_times_without_a_zone_are_taken(tmp_path):
    times = pa.array([datetime(2013, 7, 2), datetime(2013, 7, 3)], pa.timestamp("s"))
    labels = pa.table({"prediction_id": ["a", "b"], "outcome": [True, False], "known_time": times})
    LabelLedger(tmp_path).record(labels, now=NOW)
    found = LabelLedger(tmp_path).known(NOW)
    assert found.column("outcome").to_pylist() == [1.0, 0.0]
    assert found.column("known_time").to_pylist()[0] == datetime(2013, 7, 2, tzinfo=UTC)


def test_a_file_that_is_cut_short_is_named(tmp_path):
    file = LabelLedger(tmp_path).record(_labels(["a"], [1.0]), now=NOW).file
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(StorageError, match="cannot be read"):
        LabelLedger(tmp_path).known(NOW)


_WRITER = """
    import sys
    from datetime import UTC, datetime, timedelta
    import pyarrow as pa
    from stk_ml.monitoring.labels import LabelLedger

    ledger, me, count = LabelLedger(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    now = datetime(2013, 8, 1, tzinfo=UTC)
    for number in range(count):
        ids = [f"{me}-{number}#{row}" for row in range(50)]
        times = pa.array([now] * 50, pa.timestamp("us", "UTC"))
        ledger.record(pa.table({"prediction_id": ids, "outcome": [1.0] * 50, "known_time": times}), now=now)
        print(number, flush=True)
"""


def _writer(folder, name, count):
    command = [sys.executable, "-c", textwrap.dedent(_WRITER), str(folder), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_record_at_once_and_lose_nothing(tmp_path):
    writers = [_writer(tmp_path, f"w{number}", 10) for number in range(3)]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    for writer in writers:
        writer.stdout.close()
    assert LabelLedger(tmp_path).known(NOW).num_rows == 3 * 10 * 50


def test_a_writer_killed_at_any_time_leaves_whole_files_only(tmp_path):
    writer = _writer(tmp_path, "w", 100_000)
    told = [int(writer.stdout.readline()) for _ in range(20)]
    os.kill(writer.pid, signal.SIGKILL)
    told += [int(line) for line in writer.stdout if line.endswith("\n")]
    writer.wait(30)
    writer.stdout.close()
    rows = LabelLedger(tmp_path).known(NOW).num_rows
    assert rows % 50 == 0
    assert rows >= 50 * len(told)


@pytest.mark.parametrize("columns", [{"row_id": ["p1", "p2"]}, {"prediction_id": ["p1", "p2"]}])
def test_labels_are_read_from_csv_and_parquet_alike(tmp_path, columns):
    table = pa.table(
        {**columns, "outcome": [1, 0], "known_time": ["2013-07-02T08:00:00Z", "2013-07-03 10:00:00+02:00"]}
    )
    lines = [",".join(table.column_names), *(",".join(map(str, row.values())) for row in table.to_pylist())]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    from_csv = read_labels(tmp_path / "labels.csv")
    pq.write_table(from_csv, tmp_path / "labels.parquet")
    LabelLedger(tmp_path / "ledger").record(read_labels(tmp_path / "labels.parquet"), now=NOW)
    found = LabelLedger(tmp_path / "ledger").known(NOW)
    assert found.column("prediction_id").to_pylist() == ["p1", "p2"]
    assert found.column("known_time").to_pylist()[1] == datetime(2013, 7, 3, 8, tzinfo=UTC)


def test_ids_that_look_like_numbers_stay_text(tmp_path):
    (tmp_path / "labels.csv").write_text("row_id,outcome,known_time\n007,1,2013-07-02T08:00:00Z\n")
    assert read_labels(tmp_path / "labels.csv").column("prediction_id").to_pylist() == ["007"]


def test_a_file_without_ids_or_that_is_no_table_is_refused(tmp_path):
    (tmp_path / "labels.csv").write_text("outcome,known_time\n1,2013-07-02T08:00:00Z\n")
    with pytest.raises(UsageError, match="names no prediction"):
        read_labels(tmp_path / "labels.csv")
    (tmp_path / "labels.parquet").write_text("no")
    with pytest.raises(StorageError, match="cannot be read"):
        read_labels(tmp_path / "labels.parquet")
    with pytest.raises(StorageError, match="cannot be read"):
        read_labels(tmp_path / "absent.csv")


@pytest.mark.parametrize("row", ["zero", "", "-1", "1.5"])
def test_a_row_that_is_no_number_is_refused_with_its_line(tmp_path, row):
    (tmp_path / "labels.csv").write_text(
        f"request_id,row,outcome,known_time\nq7,0,1,2013-07-02T08:00:00Z\nq8,{row},1,2013-07-02T08:00:00Z\n"
    )
    with pytest.raises(LabelError, match="line 3: request 'q8', row"):
        read_labels(tmp_path / "labels.csv")


def test_a_request_without_a_name_is_refused_with_its_line(tmp_path):
    (tmp_path / "labels.csv").write_text("request_id,outcome,known_time\n,1,2013-07-02T08:00:00Z\n")
    with pytest.raises(LabelError, match="line 2: request '', row 0 name no prediction"):
        read_labels(tmp_path / "labels.csv")


def test_a_header_alone_records_nothing(tmp_path):
    (tmp_path / "labels.csv").write_text("row_id,outcome,known_time\n")
    assert LabelLedger(tmp_path / "ledger").record(read_labels(tmp_path / "labels.csv"), now=NOW).rows == 0


def test_labels_meet_their_predictions(tmp_path):
    ledger = LabelLedger(tmp_path)
    ledger.record(_labels(["r#1", "parcel", "unknown"], [1.0, 0.0, 1.0]), now=NOW)
    ids = prediction_ids(["r", "r", "s"], ["", "", "parcel"])
    found = attach(ledger.known(NOW), ids, np.arange(3.0), np.array([0.1, 0.2, 0.3]))
    assert np.isnan(found.outcomes).tolist() == [True, False, False]
    assert found.outcomes[1:].tolist() == [1.0, 0.0]
    assert found.known[1] == (NOW - timedelta(days=1)).timestamp()


def test_many_labels_are_read_in_seconds(tmp_path):
    ledger = LabelLedger(tmp_path)
    for number in range(5):
        ids = pa.array(np.char.add("r", np.arange(number * 40_000, number * 40_000 + 50_000).astype(str)))
        known = [NOW - timedelta(days=5 - number)] * 50_000
        ledger.record(_labels(ids, np.ones(50_000), known), now=NOW)
    found = ledger.known(NOW)
    assert found.num_rows == 210_000
    assert sum(found.column("records").to_pylist()) == 250_000


def test_known_times_are_unix_times_of_any_unit(tmp_path: Path) -> None:
    for place, known in enumerate((1_370_000_000, 1_370_000_000_000, 1_370_000_000.0, "2013-05-31T11:33:20Z")):
        ledger = LabelLedger(tmp_path / str(place))
        ledger.record(pa.table({"prediction_id": ["a"], "outcome": [1.0], "known_time": [known]}), now=NOW)
        assert ledger.known(NOW)["known_time"][0].as_py().isoformat() == "2013-05-31T11:33:20+00:00"
    with pytest.raises(UsageError, match="no times"):
        ledger.record(pa.table({"prediction_id": ["a"], "outcome": [1.0], "known_time": [300]}), now=NOW)


def test_a_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dup.csv").write_text("row_id,outcome,outcome,known_time\na,1,0,2013-01-01\n")
    with pytest.raises(UsageError, match="'outcome' is there several times"):
        read_labels(tmp_path / "dup.csv")
