"""What the rigs and the tests of the lake share: where Azurite is, and real processes that write."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

from stk_ml.lake.lake import Lake

ROOT = Path(__file__).parents[2]
AZURITE = ROOT / ".tools/azurite"
INSTALL = "sh tests/lake/install_azurite.sh"
ACCOUNT, CONTAINER = "stktest", "lake"
KEY = base64.b64encode(b"a key that only this test knows").decode()


class Child:
    """A real process that runs pieces of Python code with ``lake``, ``pa`` and ``np`` in scope, one after the other."""

    _MAIN = """
import json, sys
import numpy as np
import pyarrow as pa
from stk_ml.lake.lake import Lake
for line in sys.stdin:
    lake, code = json.loads(line)
    exec(code, {"lake": Lake(*lake), "np": np, "pa": pa})
    print("done", flush=True)
"""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", self._MAIN],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def start(self, lake: Lake, code: str) -> None:
        """Lets it begin with the code."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([[lake.uri, dict(lake._location.options)], code]) + "\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """The next line that it prints; empty when it has died."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def printed(self) -> list[str]:
        """The lines that it prints until it is done with the code."""
        lines = []
        while (line := self.line()) != "done":
            assert line, "the process died: see its standard error"
            lines.append(line)
        return lines

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.process.communicate()
