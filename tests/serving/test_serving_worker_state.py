"""A worker follows the state of its endpoint, and ends with its supervisor."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scorer_endpoint import Endpoint
from scorer_process import post

from stk_ml import contracts
from stk_ml.endpoint_state import Deployment, WorkerStatus


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
        "from scorer_endpoint import Endpoint\n"
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
