"""MLServer with its LightGBM runtime, over Open Inference Protocol tensors (one FP64 tensor of rows x features).

Its MLflow runtime was 9 times slower with the same model. What costs throughput and can be turned off is off: the extra
worker process, metrics, debug.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from serving.model import Model
from serving.peers.peer import Peer, Rows, dumps


class MLServer(Peer):
    """MLServer's LightGBM runtime, inference in the server's own process."""

    name = "MLServer"
    requirements = "mlserver"
    path = "/v2/models/bench/infer"
    ready = "/v2/models/bench/ready"

    def command(self, python: Path, model: Model, port: int, scratch: Path) -> list[str]:
        """Writes its two settings files, then mlserver start."""
        (scratch / "model.bst").write_bytes((model.folder / "booster.txt").read_bytes())
        declared = {"implementation": "mlserver_lightgbm.LightGBMModel", "parameters": {"uri": "./model.bst"}}
        (scratch / "model-settings.json").write_text(json.dumps({"name": "bench", **declared}))
        ports = {"http_port": port, "grpc_port": port + 1, "metrics_port": port + 2, "host": "127.0.0.1"}
        lean = {"debug": False, "parallel_workers": 0, "metrics_endpoint": None, "use_structured_logging": False}
        (scratch / "settings.json").write_text(json.dumps(ports | lean))
        return [str(python.with_name("mlserver")), "start", str(scratch)]

    def body(self, rows: Rows) -> bytes:
        """One tensor."""
        flat = [value for row in rows for value in row.values()]
        tensor = {"name": "rows", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": flat}
        return dumps({"inputs": [tensor]})

    def scores(self, answer: Any) -> list[float]:
        """The first output."""
        return list(answer["outputs"][0]["data"])
