"""Podman with a storage of its own, and containers as an orchestrator starts and stops them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
INSTALL = "sh tests/image/install_podman.sh (as root: apt-get install podman runc debootstrap)"
#: Here images and layers live on between runs, so that only the first run pays for them.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stk-ml" / "image-tests"
#: Stands among pip's settings when the image is built, and must not be found in it.
MARK = "build-secret-mark.invalid"
#: Host network and runc, because neither a bridge nor crun can be had on every machine that runs tests.
CONTAINERS = """
[containers]
netns = "host"
default_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]
[engine]
runtime = "runc"
"""
STORAGE = f"""
[storage]
driver = "overlay"
graphroot = "{CACHE}/storage"
runroot = "/run/stk-ml-image-tests"
"""
#: What AKS gives the scorer: nobody's root, nothing to write to but these two, no capability.
CONFINED = (
    *(
        "--read-only",
        "--read-only-tmpfs=false",
        "--user",
        "10001:10001",
        "--cap-drop",
        "all",
        "--security-opt",
        "no-new-privileges",
    ),
    *("--tmpfs", "/tmp", "--tmpfs", "/var/stk"),
)
#: Podman's own health checks want systemd.
UNWATCHED = "--no-healthcheck"


class Podman:
    """The podman command; nothing of the user's own images is touched."""

    def __init__(self) -> None:
        CACHE.mkdir(parents=True, exist_ok=True)
        (CACHE / "containers.conf").write_text(CONTAINERS)
        (CACHE / "storage.conf").write_text(STORAGE)
        self.environ = {
            **os.environ,
            "CONTAINERS_CONF": f"{CACHE}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{CACHE}/storage.conf",
            "ENGINE": "podman",
        }

    def run(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One podman command."""
        return self.call("podman", *words, check=check)

    def call(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Any command, with the settings of this podman."""
        result = subprocess.run(words, env=self.environ, capture_output=True, text=True, timeout=600)
        assert not check or result.returncode == 0, f"{words}\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
        return result

    def inspect(self, image: str) -> dict[str, Any]:
        """What podman knows of an image."""
        return json.loads(self.run("image", "inspect", image).stdout)[0]

    def shell(self, image: str, script: str) -> subprocess.CompletedProcess[str]:
        """Runs a shell script in a confined container of its own."""
        return self.run("run", "--rm", *CONFINED, UNWATCHED, image, "sh", "-c", script, check=False)


@dataclass
class Container:
    """A running container and the podman process that waits for it."""

    podman: Podman
    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def text(self) -> str:
        """What it printed."""
        return self.log.read_text("utf-8", "replace")

    def execute(self, *words: str, check: bool = True) -> str:
        """Runs a command inside."""
        return self.podman.run("exec", self.name, *words, check=check).stdout

    def listens(self, seconds: float = 30) -> str:
        """Waits until it says where it listens: the base URL, as seen from outside."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            if said := re.search(r"http://[\w.\[\]:]+:(\d+)", self.text):
                return f"http://127.0.0.1:{said[1]}"
            time.sleep(0.05)
        raise AssertionError(f"{self.name} does not listen\n{self.text}")

    def stop(self, seconds: int = 15) -> int:
        """Stops it as an orchestrator does: its stop signal, later SIGKILL. Returns the exit code."""
        self.podman.run("stop", "--time", str(seconds), self.name)
        return self.process.wait(seconds)


@contextmanager
def container(
    podman: Podman, image: str, log: Path, options: Sequence[str], command: Sequence[str] = ()
) -> Iterator[Container]:
    """Starts a container and removes it at the end, whatever happens."""
    name = f"stk-ml-test-{uuid.uuid4().hex[:12]}"
    words = ["podman", "run", "--rm", "--name", name, *options, image, *command]
    with log.open("wb") as file:
        process = subprocess.Popen(words, env=podman.environ, stdout=file, stderr=file)
    try:
        yield Container(podman, name, process, log)
    finally:
        podman.run("rm", "--force", "--time", "0", "--ignore", name, check=False)
        process.wait(30)
