"""A worker as its callers and its supervisor meet it: limits, drain, what it tells, what it follows."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from scorer_process import Scorer, post, scorer

from stk_ml.artifact.golden import Golden


def test_a_scorer_starts_without_the_heavy_libraries(folder: Path) -> None:
    code = (
        "import sys; from stk_ml.serving import launch, worker, auth, app\n"
        "from stk_ml.artifact.predictor import Predictor\n"
        f"assert Predictor.load({str(folder)!r}).replay() < 1e-9\n"
        "print(*{'lightgbm', 'sklearn', 'scipy', 'pyarrow', 'pandas', 'mlflow', 'duckdb', 'rich'} & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not result.stdout.split()


def test_one_row_is_scored_as_the_model_scores_it(served: Scorer, folder: Path) -> None:
    golden = Golden.load(folder)
    connection = served.connection()
    for given, score in zip(golden.records, golden.scores, strict=True):
        status, answer = post(connection, {"data": [given]}, served.headers)
        assert (status, answer["predictions"]) == (200, pytest.approx([score], abs=1e-9))
        assert answer["model"]["name"] == "late-parcel"


def test_too_many_rows_to_explain_are_refused(project: Path, folder: Path, record: dict[str, Any]) -> None:
    with scorer(project, folder) as running:
        status, answer = post(running.connection(), {"data": [record] * 1001}, running.headers, "/score?explain=true")
    assert (status, answer["error"]["type"]) == (413, "too_large")


def test_pipelined_requests_are_answered_in_order(served: Scorer, record: dict[str, Any]) -> None:
    body = json.dumps({"data": [record]}).encode()
    key = served.headers["x-api-key"]

    def request(name: str, content: bytes) -> bytes:
        head = f"POST /score HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
        return f"{head}x-request-id: {name}\r\ncontent-length: {len(content)}\r\n\r\n".encode() + content

    with served.raw() as line:
        line.sendall(request("one", body) + request("two", b"{") + request("three", body))
        seen = b""
        while seen.count(b"HTTP/1.1 ") < 3 or not seen.endswith(b"}"):
            seen += line.recv(65536)
    places = [seen.index(f"x-request-id: {name}\r\n".encode()) for name in ("one", "two", "three")]
    assert places == sorted(places)
    assert seen.count(b"HTTP/1.1 200") == 2
    assert seen.count(b"HTTP/1.1 400") == 1


def test_a_large_batch_does_not_stall_small_requests(project: Path, folder: Path, record: dict[str, Any]) -> None:
    large = json.dumps({"data": [record] * 60_000}).encode()
    done = threading.Event()
    with scorer(project, folder, "--max-body", "30000000") as running:

        def send() -> None:
            assert post(running.connection(60), large, running.headers)[0] == 200
            done.set()

        sender = threading.Thread(target=send)
        sender.start()
        connection, answered = running.connection(), 0
        while not done.is_set():
            assert post(connection, {"data": [record]}, running.headers)[0] == 200
            answered += 1
        sender.join()
    assert answered > 20


def test_sigterm_answers_all_that_was_sent_and_ends_with_0(project: Path, folder: Path, record: dict[str, Any]) -> None:
    with scorer(project, folder) as running:
        failures: list[Exception] = []
        answered = [0] * 6
        start = threading.Barrier(7)

        def call(place: int) -> None:
            connection = running.connection()
            start.wait()
            while True:
                try:
                    connection.connect() if connection.sock is None else None
                except ConnectionRefusedError:
                    return  # it no longer takes new callers, and refuses them before they have sent anything
                try:
                    status, _ = post(connection, {"data": [record]}, running.headers)
                    assert status == 200
                    answered[place] += 1
                except Exception as error:
                    failures.append(error)
                    return

        callers = [threading.Thread(target=call, args=(place,)) for place in range(6)]
        for caller in callers:
            caller.start()
        start.wait()
        while min(answered) < 20:
            time.sleep(0.01)
        assert running.stop() == 0
        for caller in callers:
            caller.join()
    assert not failures
    assert min(answered) >= 20


def test_telemetry_is_written_when_it_ends(project: Path, folder: Path, record: dict[str, Any]) -> None:
    from stk_ml.telemetry.local import ParquetPredictionLog

    place = project / "log-of-one"
    with scorer(project, folder, "--flush", "3600", environ={"STK_ML_TELEMETRY": str(place)}) as running:
        connection = running.connection()
        for _ in range(30):
            post(connection, {"data": [record]}, running.headers)
        post(connection, {"data": [record] * 70}, running.headers)
        post(connection, b"{", running.headers)
        running.stop()
    seen = ParquetPredictionLog(place).observe("late-parcel", "v0", 0, time.time() + 60)
    assert (seen.requests, seen.errors, seen.scores) == (32, 0, 100)


def test_a_damaged_model_is_not_served(project: Path, folder: Path, tmp_path: Path) -> None:
    broken = tmp_path / "model"
    shutil.copytree(folder, broken)
    text = (broken / "booster.txt").read_text()
    (broken / "booster.txt").write_text(text.replace("leaf_value=", "leaf_value=0", 1))
    command = [sys.executable, "-m", "stk_ml", "serve", str(broken), "--port", "0"]
    result = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert result.returncode == 1
    assert "differs from the artifact's manifest" in result.stderr


def test_a_taken_port_is_told(project: Path, folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        command = [sys.executable, "-m", "stk_ml", "serve", str(folder), "--port", str(taken.getsockname()[1])]
        result = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert result.returncode == 2
    assert "cannot be listened on" in result.stderr
    assert "--port" in result.stderr


def test_the_model_of_a_container_is_found_below_its_folder(project: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "models" / "late-parcel" / "1")
    with scorer(project, "", environ={"AZUREML_MODEL_DIR": str(tmp_path / "models")}) as running:
        connection = running.connection()
        connection.request("GET", "/health/ready")
        assert connection.getresponse().status == 200


def test_several_workers_answer_as_one_and_outlive_one_of_them(
    project: Path, folder: Path, record: dict[str, Any]
) -> None:
    with scorer(project, folder, "--workers", "2", "--timeout", "5") as running:
        pids = _children(running.process.pid)
        assert len(pids) == 2
        os.kill(pids[0], signal.SIGKILL)
        for _ in range(50):
            assert post(running.connection(), {"data": [record]}, running.headers)[0] == 200
        deadline = time.monotonic() + 20
        while len(_children(running.process.pid)) < 2 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(_children(running.process.pid)) == 2
        assert running.stop() == 0


def test_connections_are_shared_among_the_workers(project: Path, folder: Path, record: dict[str, Any]) -> None:
    with scorer(project, folder, "--workers", "2") as running:
        connections = [running.connection() for _ in range(200)]
        for connection in connections:
            connection.connect()
        for connection in connections:
            assert post(connection, {"data": [record]}, running.headers)[0] == 200
        held = [_connections(pid, running.port) for pid in _children(running.process.pid)]
    assert sum(held) == 200
    assert min(held) >= 1


def _connections(pid: int, port: int) -> int:
    """Number of connections to the port that a process holds."""
    inodes = {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    local = f":{port:04X}"
    return sum(row[1].endswith(local) and row[3] == "01" and f"socket:[{row[9]}]" in inodes for row in rows)


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_draining_worker_is_not_ready_and_still_answers_new_callers(
    project: Path, folder: Path, record: dict[str, Any]
) -> None:
    with scorer(project, folder) as running:
        running.process.send_signal(signal.SIGTERM)
        ready, deadline = 200, time.monotonic() + 5
        while ready == 200 and time.monotonic() < deadline:
            connection = running.connection()
            connection.request("GET", "/health/ready")
            ready = connection.getresponse().status
        assert ready == 503
        assert post(running.connection(), {"data": [record]}, running.headers)[0] == 200
        assert running.process.wait(30) == 0


def test_what_was_given_up_is_not_logged_as_scored(project: Path, folder: Path, record: dict[str, Any]) -> None:
    from stk_ml.telemetry.local import ParquetPredictionLog

    log = project / "log-of-refusals"
    rows = {"data": [record] * 1000}
    with scorer(project, folder, "--timeout", "0.01", environ={"STK_ML_TELEMETRY": str(log)}) as running:
        connection = running.connection()
        codes = [post(connection, rows, running.headers, "/score?explain=true")[0] for _ in range(5)]
        assert post(connection, {"data": [{**record, "km": "far"}]}, running.headers)[0] == 422
        running.stop()
    seen = ParquetPredictionLog(log).observe("late-parcel", "v0", 0, time.time() + 60)
    assert 504 in codes
    assert (seen.requests, seen.errors) == (6, codes.count(504))
    assert seen.scores == 1000 * codes.count(200)
