"""An endpoint with one worker, as the tests change it."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from stk_ml import contracts
from stk_ml.artifact.document import unseal
from stk_ml.endpoint_state import Deployment, EndpointState, WorkerStatus


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
