"""A scorer as a process: started on a free port, waited for, ended."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stk_ml.vault import keys
from stk_ml.vault.local import FileSecretStore

#: What the server is started with, so that tests reach the limits with small bodies.
MAX_ROWS, MAX_BODY = 1000, 1_000_000


@dataclass(frozen=True)
class Server:
    """A running scorer.

    Attributes:
        url: ``http://127.0.0.1:PORT``.
        headers: that let a caller in.
        folder: of the model.
        project: its project folder.
        process: it runs in.
    """

    url: str
    headers: Mapping[str, str]
    folder: Path
    project: Path
    process: subprocess.Popen[str]


@contextmanager
def served(folder: Path, project: Path, *flags: str, name: str = "late-parcel") -> Iterator[Server]:
    """Serves a model's folder, and ends the process at the end of the block."""
    (project / "stk.toml").write_text("[profile.laptop]\n")
    store = FileSecretStore(project / ".stk" / "vault.json")
    keys.ensure(store, name)
    command = [sys.executable, "-m", "stk_ml", "serve", str(folder), "--port", "0", "--project", str(project)]
    limits = ["--max-rows", str(MAX_ROWS), "--max-body", str(MAX_BODY)]
    process = subprocess.Popen([*command, *limits, *flags], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"at (http://\S+)/score", line):
                break
        else:
            raise AssertionError(f"the server ended with {process.wait()}:\n{''.join(said)}")
        threading.Thread(target=process.stderr.read, daemon=True).start()  # so that it never waits to log
        yield Server(found[1], {"x-api-key": dict(keys.read(store, name))["primary"]}, folder, project, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)
