"""Load on a server by wrk, from the other core, cycling over distinct rows."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from serving.server import CORES, FailedError, Server, pinned

SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True)
class Shape:
    """What is asked at a time: rows a request, connections, seconds a slice, and how many bodies are cycled over."""

    rows: int
    connections: int
    seconds: float
    bodies: int

    def __str__(self) -> str:
        return f"{self.rows:,} row{'s'[: self.rows > 1]}, {self.connections} connection{'s'[: self.connections > 1]}"


@dataclass
class Measured:
    """Slices of one server under one shape.

    Attributes:
        rates: requests per second.
        p50s, p99s: latencies in milliseconds.
        shares: how much of its core the server got; well below 1, it waited for wrk, or the machine was busy.
    """

    rates: list[float] = field(default_factory=list)
    p50s: list[float] = field(default_factory=list)
    p99s: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Median requests per second."""
        return statistics.median(self.rates)

    @property
    def p50(self) -> float:
        """Median of the slices' medians, ms."""
        return statistics.median(self.p50s)

    @property
    def p99(self) -> float:
        """Median of the slices' 99th percentiles, ms."""
        return statistics.median(self.p99s)

    @property
    def per_cpu(self) -> float:
        """Median requests per second of processor time: what is left to compare when the machine was busy."""
        return statistics.median(rate / share for rate, share in zip(self.rates, self.shares, strict=True))

    @property
    def told(self) -> dict[str, float]:
        """The medians, for the output."""
        found = {"requests/s": self.rate, "p50, ms": self.p50, "p99, ms": self.p99}
        return {
            name: float(f"{value:.4g}")
            for name, value in {**found, "cpu": statistics.median(self.shares), "requests/cpu s": self.per_cpu}.items()
        }


def missing() -> str:
    """What this machine lacks for the measurement, with its remedy; empty when nothing."""
    if not shutil.which("wrk"):
        return "wrk is not installed: apt-get install wrk"
    return "" if len(CORES) > 1 else "two cores are needed: one for wrk, one for the server"


def bodies(server: Server, shape: Shape, folder: Path) -> Path:
    """The file of bodies that wrk cycles over: distinct rows in each."""
    rows = server.peer.rows(server.model)
    parts = [rows[place * shape.rows : (place + 1) * shape.rows] for place in range(shape.bodies)]
    if len(parts[-1]) != shape.rows:
        raise ValueError(f"{shape} x {shape.bodies} bodies needs more than the {len(rows)} rows there are")
    file = folder / f"{server.port}-{shape.rows}.json"
    if not file.exists():
        file.write_bytes(b"\n".join(map(server.peer.body, parts)) + b"\n")
    return file


def slice_(server: Server, shape: Shape, folder: Path, into: Measured | None = None, seconds: float = 0) -> None:
    """One slice of load.

    Raises:
        FailedError: an answer was no 2xx, a connection broke, or nothing was answered.
    """
    file = bodies(server, shape, folder)
    words = ["-t1", f"-c{shape.connections}", f"-d{seconds or shape.seconds:g}s", "--timeout", "60s", "--latency"]
    url = f"http://127.0.0.1:{server.port}{server.peer.path}"
    headers: Sequence[str] = [word for pair in server.peer.headers.items() for word in pair]
    command = ["wrk", *words, "-s", str(SCRIPT), url, "--", str(file), *headers]
    before = server.cpu()
    with server.running():
        done = subprocess.run(pinned(CORES[0], command), capture_output=True, text=True, check=False)
    if done.returncode:
        raise FailedError(f"wrk ended with status {done.returncode}: {done.stderr.strip()[-300:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    errors = {name: found[name] for name in ("connect", "read", "write", "status", "timeout") if found[name]}
    if errors or not found["requests"]:
        raise FailedError(
            f"{server.peer.name}, {shape}: {found['requests']} requests, errors {errors}: {server.said()}"
        )
    if into is not None:
        into.rates.append(found["requests"] / found["microseconds"] * 1e6)
        into.p50s.append(found["p50"] / 1000)
        into.p99s.append(found["p99"] / 1000)
        into.shares.append((server.cpu() - before) / found["microseconds"] * 1e6)
