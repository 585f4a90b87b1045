from __future__ import annotations

import itertools
import threading
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
    file.write_text("old\n")
    found = tail.follow(tmp_path)
    taken: list[str] = []
    reading = threading.Thread(target=lambda: taken.extend(next(found) for _ in range(1)))

    def after(write: object) -> str:
        nonlocal reading
        reading = threading.Thread(target=lambda: taken.extend(itertools.islice(found, 1)))
        reading.start()
        write()  # type: ignore[operator]
        reading.join()
        return taken[-1].split(maxsplit=1)[1]

    def append(path: Path, text: str) -> object:
        def write() -> None:
            with path.open("a") as stream:
                stream.write(text)

        return write

    first = tmp_path / "a.log"
    # The reader looks before it sleeps: a line that is there is found, one that is half written is not.
    next_line = after(append(tmp_path / "b.log", "of a new log\n"))
    assert next_line == "of a new log"
    assert after(append(first, "new\n")) == "new"
    assert after(lambda: first.write_text("cut\n")) == "cut"
