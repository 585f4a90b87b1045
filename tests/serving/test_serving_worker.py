"""A worker as its callers and its supervisor meet it: limits, drain, what it tells, what it follows."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scorer_process import Scorer, post, scorer

from stk_ml import contracts
from stk_ml.artifact.document import unseal
from stk_ml.artifact.golden import Golden
from stk_ml.endpoint_state import Deployment, EndpointState, WorkerStatus


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    (folder / "stk.toml").write_text('[project]\nname = "parcels"\n[profile.laptop]\n')
    return folder


@pytest.fixture(scope="module")
def record(folder: Path) -> dict[str, Any]:
    return dict(Golden.load(folder).records[0])


@pytest.fixture(scope="module")
def served(project: Path, folder: Path) -> Iterator[Scorer]:
    flags = ("--max-body", "200000", "--max-rows", "1000", "--timeout", "2", "--max-requests", "4")
    with scorer(project, folder, *flags) as running:
        yield running


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


def test_a_body_that_is_announced_too_large_is_refused_before_it_is_sent(served: Scorer) -> None:
    with served.raw() as line:
        key = served.headers["x-api-key"]
        line.sendall(
            f"POST /score HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: 99999999\r\n\r\n".encode()
        )
        assert line.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_chunked_body_is_cut_off_at_the_limit(served: Scorer) -> None:
    with served.raw() as line:
        key = served.headers["x-api-key"]
        line.sendall(
            f"POST /score HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
        )
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        try:
            for _ in range(8):
                line.sendall(chunk)
        except OSError:
            pass
        assert line.recv(4096).startswith(b"HTTP/1.1 413")


def test_a_body_that_does_not_come_is_given_up(served: Scorer) -> None:
    with served.raw() as line:
        key = served.headers["x-api-key"]
        line.sendall(f"POST /score HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: 10\r\n\r\n[".encode())
        got = received(line)
        assert got.startswith(b"HTTP/1.1 408")
        assert b"slow_body" in got


def test_a_head_that_does_not_come_is_given_up(served: Scorer) -> None:
    with served.raw() as line:
        line.sendall(b"POST /score HTTP/1.1\r\nhost: x")
        assert line.recv(4096) == b""


def test_more_requests_than_allowed_are_told_to_come_again(served: Scorer) -> None:
    key = served.headers["x-api-key"]
    head = f"POST /score HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: 10\r\n\r\n[".encode()
    waiting = [served.raw() for _ in range(8)]
    try:
        for line in waiting:
            line.sendall(head)
        answers = [received(line) for line in waiting]
    finally:
        for line in waiting:
            line.close()
    busy = [got for got in answers if got.startswith(b"HTTP/1.1 429")]
    assert len(busy) == 4
    assert all(b"retry-after: 1" in got for got in busy)
    assert all(got.startswith(b"HTTP/1.1 408") for got in answers if got not in busy)


def head(served: Scorer, *lines: str, path: str = "/score") -> bytes:
    first = (f"POST {path} HTTP/1.1", "host: x", f"x-api-key: {served.headers['x-api-key']}")
    return "\r\n".join((*first, "content-type: application/json", *lines, "", "")).encode()


def received(line: socket.socket) -> bytes:
    """One whole answer; more when more came with it."""
    seen = b""
    while b"\r\n\r\n" not in seen:
        seen += line.recv(65536)
    top, _, rest = seen.partition(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", top)
    while found and len(rest) < int(found[1]):
        rest += line.recv(65536)
    return top + b"\r\n\r\n" + rest


def test_a_head_that_does_not_end_is_cut_off(served: Scorer) -> None:
    with served.raw() as line:
        line.sendall(b"GET /health/live HTTP/1.1\r\nhost: x\r\n")
        with contextlib.suppress(OSError):
            for _ in range(64):
                line.sendall(b"x-filler: " + b"a" * 8000 + b"\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert line.recv(4096).startswith(b"HTTP/1.1 431")
    with served.raw() as line, contextlib.suppress(OSError):
        line.sendall(b"GET /" + b"a" * 1_000_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n")
        assert line.recv(4096).startswith(b"HTTP/1.1 431")


def test_a_large_body_behind_a_short_head_is_no_long_head(served: Scorer, record: dict[str, Any]) -> None:
    body = json.dumps({"data": [record] * 900}).encode()
    with served.raw() as line:
        line.sendall(head(served, f"content-length: {len(body)}") + body)
        assert line.recv(4096).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("pieces", [1, 2])
def test_an_upgrade_is_ignored_and_its_body_is_a_body(served: Scorer, record: dict[str, Any], pieces: int) -> None:
    body = json.dumps({"data": [record]}).encode()
    smuggled = head(served, "content-length: 0", path="/invocations")
    for content, code in ((body, b"200"), (smuggled, b"400")):
        asked = head(
            served,
            "connection: Upgrade, HTTP2-Settings",
            "upgrade: h2c",
            "http2-settings: AAMAAABkAAQAAP__",
            f"content-length: {len(content)}",
        )
        with served.raw() as line:
            line.settimeout(3)
            if pieces == 2:
                line.sendall(asked)
                time.sleep(0.05)
                line.sendall(content)
            else:
                line.sendall(asked + content)
            got = received(line)
            assert got.startswith(b"HTTP/1.1 " + code)
            assert got.count(b"HTTP/1.1 ") == 1
            line.sendall(head(served, f"content-length: {len(body)}") + body)
            assert received(line).startswith(b"HTTP/1.1 200")


def test_a_refused_request_does_not_hold_its_connection_by_a_trickling_body(served: Scorer) -> None:
    with served.raw() as line:
        line.sendall(b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n")
        assert line.recv(4096).startswith(b"HTTP/1.1 401")
        line.settimeout(8)
        for _ in range(20):
            try:
                line.sendall(b" ")
            except OSError:
                break
            time.sleep(0.3)
        else:
            raise AssertionError("still open after 6 s, with a limit of 2 s")


def test_work_that_may_be_heavy_delays_no_small_request(served: Scorer, record: dict[str, Any]) -> None:
    rows = gzip.compress(json.dumps({"data": [record] * 1000}).encode())
    heavy = {**served.headers, "content-encoding": "gzip"}
    assert len(rows) < 32_000
    done = threading.Event()

    def explain() -> None:
        for _ in range(5):
            status, answer = post(served.connection(), rows, heavy, "/score?explain=true")
            assert (status, len(answer.get("explanations", ()))) in ((200, 1000), (504, 0))
        done.set()

    asking = threading.Thread(target=explain)
    asking.start()
    connection, answered = served.connection(), 0
    while not done.is_set():
        assert post(connection, {"data": [record]}, served.headers)[0] == 200
        answered += 1
    asking.join()
    assert answered > 50


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


class Endpoint:
    """An endpoint's folder with one worker of it, started as a supervisor starts it."""

    def __init__(self, project: Path, folder: Path, model: Path) -> None:
        self.folder, self.model, self.revision = folder, model, 0
        (folder / "workers").mkdir(parents=True)
        self.digest = unseal(model)[1]
        self.put(Deployment("v1", "late-parcel", 1, self.digest, str(model), 100))
        self.socket = socket.create_server(("127.0.0.1", 0))
        descriptor = self.socket.fileno()
        command = ["serve", "--endpoint-folder", str(folder), "--fd", str(descriptor), "--flush", "0.2"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stk_ml", *command, "--auth", "none"],
            cwd=project,
            pass_fds=[descriptor],
            stderr=subprocess.DEVNULL,
        )

    def put(self, *deployments: Deployment) -> int:
        self.revision += 1
        contracts.write(EndpointState(self.folder.name, self.revision, deployments), self.folder / "endpoint.json")
        return self.revision

    def status(self, wanted: Any) -> WorkerStatus:
        """Waits until the worker says what is wanted."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            file = self.folder / "workers" / "0.json"
            if file.exists() and wanted(found := contracts.read(WorkerStatus, file)):
                return found
            time.sleep(0.02)
        raise AssertionError(f"never said; last {found if file.exists() else 'nothing'}")

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.socket.getsockname()[1], timeout=20)


@pytest.fixture
def endpoint(project: Path, folder: Path, tmp_path: Path) -> Iterator[Endpoint]:
    running = Endpoint(project, tmp_path / "parcels", folder)
    running.status(lambda status: status.ready)
    yield running
    running.process.kill()
    running.process.wait()
    running.socket.close()


def test_traffic_changes_without_a_restart_and_without_a_failed_request(
    endpoint: Endpoint, record: dict[str, Any]
) -> None:
    connection, seen = endpoint.connection(), set()
    one = Deployment("v1", "late-parcel", 1, endpoint.digest, str(endpoint.model), 50)
    two = Deployment("v2", "late-parcel", 2, endpoint.digest, str(endpoint.model), 50)
    changed = False
    for number in range(3000):
        status, answer = post(connection, {"data": [record]}, {})
        assert status == 200
        seen.add(answer["model"]["deployment"])
        if number == 50:
            endpoint.put(one, two)
            changed = True
        if changed and seen == {"v1", "v2"}:
            break
        time.sleep(0.001)
    assert seen == {"v1", "v2"}
    assert endpoint.status(lambda status: status.revision == 2).ready


def test_a_state_that_cannot_be_loaded_is_told_and_the_old_one_stays(
    endpoint: Endpoint, record: dict[str, Any], tmp_path: Path
) -> None:
    endpoint.put(Deployment("v2", "late-parcel", 2, "", str(tmp_path / "nothing"), 100))
    told = endpoint.status(lambda status: status.error)
    assert told.ready
    assert told.revision == 1
    assert "nothing" in told.error
    assert post(endpoint.connection(), {"data": [record]}, {})[1]["model"]["deployment"] == "v1"
    endpoint.put(Deployment("v1", "late-parcel", 1, endpoint.digest, str(endpoint.model), 100))
    assert endpoint.status(lambda status: status.revision == 3).error == ""


def test_another_model_than_the_state_names_is_not_served(endpoint: Endpoint) -> None:
    endpoint.put(Deployment("v2", "late-parcel", 2, "0" * 64, str(endpoint.model), 100))
    assert "is to serve 000000000000" in endpoint.status(lambda status: status.error).error


def test_a_shadow_scores_copies_that_no_caller_sees(endpoint: Endpoint, record: dict[str, Any], project: Path) -> None:
    from stk_ml.telemetry.local import ParquetPredictionLog

    live = Deployment("v1", "late-parcel", 1, endpoint.digest, str(endpoint.model), 100)
    shadow = Deployment("v2", "late-parcel", 2, endpoint.digest, str(endpoint.model), 0, shadow=True)
    endpoint.put(live, shadow)
    endpoint.status(lambda status: status.revision == 2)
    connection = endpoint.connection()
    for _ in range(40):
        assert post(connection, {"data": [record]}, {})[1]["model"]["deployment"] == "v1"
    assert post(connection, {"data": [record] * 60}, {})[0] == 200
    log = ParquetPredictionLog(project / ".stk" / "telemetry")
    deadline = time.monotonic() + 20
    while log.observe("parcels", "v2", 0, time.time() + 60).scores < 100 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert log.observe("parcels", "v2", 0, time.time() + 60).scores == 100
    events = log.read("AppEvents", since=0, until=time.time() + 60).to_pylist()
    differences = [json.loads(event["Properties"]) for event in events if event["Name"] == "stk.shadow"]
    assert sum(int(found["rows"]) for found in differences) == 100
    assert all(float(found["mean_absolute"]) == 0 for found in differences)


def test_status_counts_what_was_answered(endpoint: Endpoint, record: dict[str, Any]) -> None:
    connection = endpoint.connection()
    for _ in range(25):
        post(connection, {"data": [record]}, {})
    told = endpoint.status(lambda status: status.requests >= 25)
    assert told.errors == 0
    assert 0 < told.p50 <= told.p99
    assert told.pid == endpoint.process.pid
    assert 0 < told.memory < 200 * 2**20


def test_a_worker_without_a_supervisor_ends(project: Path, folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from test_serving_worker import Endpoint\n"
        "running = Endpoint(Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]))\n"
        "running.status(lambda status: status.ready); print(running.process.pid, flush=True); time.sleep(60)"
    )
    words = [str(Path(__file__).parent), str(project), str(tmp_path / "orphaned"), str(folder)]
    supervisor = subprocess.Popen([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True)
    assert supervisor.stdout is not None
    worker = int(supervisor.stdout.readline())
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    supervisor.stdout.close()
    file = tmp_path / "orphaned" / "workers" / "0.json"
    deadline = time.monotonic() + 20
    while contracts.read(WorkerStatus, file).ready and time.monotonic() < deadline:
        time.sleep(0.05)
    assert contracts.read(WorkerStatus, file).pid == worker
    assert not contracts.read(WorkerStatus, file).ready


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
