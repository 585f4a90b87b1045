from __future__ import annotations

from pathlib import Path

from stk_ml.deployment import tail


def test_the_newest_lines_are_read_from_the_end(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text("".join(f"line {number} {'x' * 100}\n" for number in range(5000)))
    assert [line.split()[1] for line in tail.last(file, 3)] == ["4997", "4998", "4999"]
    assert len(tail.last(file, 10_000)) == 5000
    assert tail.last(file, 0) == []
    assert tail.last(tmp_path / "none.log", 5) == []


def test_bytes_that_are_no_text_do_not_stop_it(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"\xff\xfe bad\nwithout an end")
    assert tail.last(tmp_path / "a.log", 5)[1] == "without an end"


def test_logs_are_merged_by_time_and_a_traceback_stays_whole(tmp_path: Path) -> None:
    (tmp_path / "supervisor.log").write_text("2026-01-01 10:00:02,000 INFO second\n")
    (tmp_path / "worker-0.log").write_text(
        "2026-01-01 10:00:01,000 ERROR first\nTraceback\n  File\n2026-01-01 10:00:03,000 INFO third\n"
    )
    lines = [line.split(maxsplit=1)[1].strip() for line in tail.merged(tmp_path, 10)]
    assert [line.split()[-1] for line in lines] == ["first", "Traceback", "File", "second", "third"]
    assert tail.merged(tmp_path, 1)[0].startswith("worker-0 ")
    assert tail.merged(tmp_path, 0) == []


def test_what_comes_is_followed_through_a_cut_and_a_new_log(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text("old\nof old\n")
    coming = tail.follow(tmp_path)
    with file.open("a") as stream:
        stream.write("new\nhalf")
    assert next(coming) == "a          new"
    (tmp_path / "b.log").write_text("of a new log\n")
    assert next(coming) == "b          of a new log"
    file.write_text("cut\n")
    assert next(coming) == "a          cut"
    (tmp_path / "b.log").unlink()
    file.unlink()
    tmp_path.rmdir()
    assert list(coming) == []
