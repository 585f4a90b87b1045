"""A soak of `stk-ml deploy`'s endpoint: steady callers while everything about it that can change is changed.

Two workers serve 600,000 requests or more, single rows and some batches, each answer checked against the model that
gave it. Meanwhile traffic moves between two models, API keys are replaced (and the replaced ones are shown to be
refused), a deployment is removed and put back, and a worker is killed with kill -9. The only requests that may fail are
those that it had: it is frozen for the instant before it is killed, and the connections that it holds are noted.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.callers import Failure, Tally, call
from serving.model import Model, make
from serving.peers.peer import dumps
from serving.server import resident
from serving.tell import say, tell

NAME = "soak"
REQUESTS, CONNECTIONS, WORKERS, CYCLES = 600_000, 16, 2, 4
BATCH, SINGLES = 100, 50  # one request in 51 holds 100 rows
FLAT = 2.0  # MB per 100,000 requests


@dataclass
class Endpoint:
    """The endpoint in a project of its own, changed through the command line.

    Attributes:
        project: its folder.
        port: where it answers.
        victims: by kill, when it was (monotonic), and the local ports of the callers whose connections it broke.
        samples: requests answered by then and resident MB, by worker process.
        answered: by the workers that run at the end, since each was started.
    """

    project: Path
    port: int = 0
    victims: list[tuple[float, set[int]]] = field(default_factory=list)
    samples: dict[int, list[tuple[int, float]]] = field(default_factory=dict)
    answered: list[int] = field(default_factory=list)

    async def stk(self, *words: str) -> Any:
        """What a command answers."""
        command = [sys.executable, "-m", "stk_ml", *words, "--json", "--quiet"]
        process = await asyncio.create_subprocess_exec(*command, cwd=self.project, stdout=-1, stderr=-1)
        out, err = await process.communicate()
        if process.returncode:
            raise SystemExit(f"stk-ml {' '.join(words)} ended with status {process.returncode}: {err.decode()[-500:]}")
        return json.loads(out) if out.strip() else None

    async def deploy(self, model: Model, *words: str) -> str:
        """Deploys an artifact; the name of the deployment."""
        answer = await self.stk("deploy", str(model.folder), "--endpoint", NAME, *words)
        self.port = int(answer["endpoint"]["url"].rpartition(":")[2])
        return str(answer["deployment"])

    async def key(self, which: str) -> str:
        """An API key."""
        return str((await self.stk("endpoint", "keys", NAME, "--show", which))[which])

    def statuses(self) -> list[dict[str, Any]]:
        """What the workers say of themselves, by index."""
        files = sorted((self.project / f".stk/endpoints/{NAME}/workers").glob("[0-9]*.json"))
        return [json.loads(file.read_text()) for file in files]

    def pids(self) -> list[int]:
        """The processes of the workers that are ready, by index."""
        return [status["pid"] for status in self.statuses() if status["ready"]]

    async def kill(self) -> None:
        """Ends the first worker with kill -9; returns when there are as many ready ones as before."""
        victim = self.pids()[0]
        os.kill(victim, signal.SIGSTOP)
        self.victims.append((time.monotonic(), callers_of(victim, self.port)))
        os.kill(victim, signal.SIGKILL)
        while len(pids := self.pids()) < WORKERS or victim in pids:
            await asyncio.sleep(0.05)

    async def rotate(self, tally: Tally) -> None:
        """Replaces both keys, one after the other, while callers use the one that stays."""
        for stays, replaced in (("secondary", "primary"), ("primary", "secondary")):
            tally.key = await self.key(stays)
            old = await self.key(replaced)
            await asyncio.sleep(0.5)  # callers have stopped to use it
            await self.stk("endpoint", "keys", NAME, "--regenerate", replaced)
            await self._until(old, 401)
            await self._until(await self.key(replaced), 200)
            await asyncio.sleep(1.5)  # a worker looks at the vault once a second, and the probes may have met only one

    async def _until(self, key: str, status: int, times: int = 20, seconds: float = 20) -> None:
        """Waits until a key is answered so, on so many new connections in a row."""
        deadline, row = time.monotonic() + seconds, 0
        while row < times:
            row = row + 1 if await asyncio.to_thread(self._probe, key) == status else 0
            if time.monotonic() > deadline:
                raise SystemExit(f"after {seconds} s a key is not answered with {status} by every worker")

    def _probe(self, key: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            headers = {"content-type": "application/json", "x-api-key": key}
            connection.request("POST", "/score", b"[", headers)
            status = connection.getresponse().status
            return 200 if status == 400 else status  # the key was taken, the body was not

    async def watch(self, tally: Tally) -> None:
        """Samples the workers' memory twice a second until cancelled."""
        while True:
            with contextlib.suppress(OSError, ValueError):
                for pid in self.pids():
                    self.samples.setdefault(pid, []).append((tally.answered, resident(pid)))
            await asyncio.sleep(0.5)


def callers_of(pid: int, port: int) -> set[int]:
    """Local ports of the callers whose connections to ``port`` a process holds."""
    held = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(str(entry.readlink()))
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[1].rpartition(":")[2], 16) == port and f"socket:[{words[9]}]" in held:
            found.add(int(words[2].rpartition(":")[2], 16))
    return found - {0}


async def change(endpoint: Endpoint, tally: Tally, models: list[Model]) -> dict[str, int]:
    """Makes all changes in cycles, spread over the requests; how often each was made."""
    made: dict[str, int] = {}
    names = [await endpoint.deploy(models[0]), await endpoint.deploy(models[1], "--canary", "10", "--no-watch")]

    async def shares(first: int) -> None:
        await endpoint.stk("endpoint", "traffic", NAME, f"{names[0]}={first}", f"{names[1]}={100 - first}")

    async def replace() -> None:
        await shares(0)
        await endpoint.stk("endpoint", "delete", NAME, "--deployment", names[0])
        names[0] = await endpoint.deploy(models[0])

    steps: list[tuple[str, Callable[[], Awaitable[None]]]] = [
        ("traffic changed", lambda: shares(50)),
        ("keys rotated", lambda: endpoint.rotate(tally)),
        ("traffic changed", lambda: shares(20)),
        ("worker killed", endpoint.kill),
        ("deployment replaced", replace),
        ("traffic changed", lambda: shares(80)),
    ]
    for number in range(CYCLES * len(steps)):
        while tally.begun < tally.wanted * number / (CYCLES * len(steps) + 1):
            await asyncio.sleep(0.05)
        name, step = steps[number % len(steps)]
        say(f"{tally.begun:,} requests, {len(tally.failures)} failed; next: {name}")
        await step()
        made[name] = made.get(name, 0) + 1
    return made


async def soak(folder: Path, models: list[Model], requests: int) -> tuple[Endpoint, Tally, dict[str, int], float]:
    """Runs it."""
    endpoint = Endpoint(folder)
    await endpoint.deploy(models[0], "--workers", str(WORKERS))
    records = models[0].records
    bodies = [(dumps([records[place]]), range(place, place + 1)) for place in range(SINGLES * (2000 // SINGLES))]
    for batch in range(2000 // SINGLES):
        rows = range(batch * BATCH, (batch + 1) * BATCH)
        bodies.insert(batch * (SINGLES + 1), (dumps(records[rows.start : rows.stop]), rows))
    digests = [json.loads((model.folder / "manifest.json").read_text())["digest"] for model in models]
    scores = {digest: model.calibrated for digest, model in zip(digests, models, strict=True)}
    tally = Tally(requests, bodies, scores, await endpoint.key("primary"))
    watching, start = asyncio.create_task(endpoint.watch(tally)), time.monotonic()
    try:
        calling = asyncio.create_task(call(tally, endpoint.port, CONNECTIONS))
        made = await change(endpoint, tally, models)
        tally.done = True
        await calling
        await asyncio.sleep(1.5)  # workers tell how they fare once a second
        endpoint.answered = [status["requests"] for status in endpoint.statuses()]
    finally:
        watching.cancel()
    return endpoint, tally, made, time.monotonic() - start


def slope(samples: list[tuple[int, float]]) -> float:
    """MB per 100,000 requests over their second half: before, the heap still warms up (Theil and Sen's median)."""
    late = [sample for sample in samples if sample[0] >= samples[-1][0] / 2]
    pairs = [
        (b - a) / (y - x) for place, (x, a) in enumerate(late) for y, b in late[place + 1 :] if y - x > late[-1][0] / 10
    ]
    return statistics.median(pairs) * 100_000 if pairs else 0.0


def report(endpoint: Endpoint, tally: Tally, made: dict[str, int], seconds: float) -> None:
    """Tells what happened."""

    def broken(failure: Failure) -> bool:
        return failure.what == "no answer" and any(
            0 <= failure.when - when < 5 and failure.port in ports for when, ports in endpoint.victims
        )

    lost = [each for each in tally.failures if broken(each)]
    others = [each for each in tally.failures if each not in lost]
    quantiles = statistics.quantiles(tally.seconds, n=1000)
    latency = {f"p{name}, ms": round(quantiles[at] * 1000, 2) for name, at in (("50", 499), ("99", 989), ("99.9", 998))}
    workers = {f"worker {index}": count for index, count in enumerate(endpoint.answered)}
    facts = {**made, "seconds": round(seconds), **latency, "by deployment": dict(tally.by), **workers}
    examples = sorted({each.what for each in others})[:5]
    tell("soak: requests", tally.begun, "requests", REQUESTS, **facts)
    tell("soak: failed, not on a killed worker", len(others), "requests", 0, False, examples=examples)
    held = [len(ports) for _, ports in endpoint.victims]
    tell("soak: failed in flight on killed workers", len(lost), "requests", sum(held), False, connections_held=held)
    longest = max(endpoint.samples.values(), key=len)
    sizes = [size for _, size in longest]
    told = {"first": sizes[0], "median": statistics.median(sizes), "last": sizes[-1], "samples": len(sizes)}
    told["highest of all workers"] = max(size for samples in endpoint.samples.values() for _, size in samples)
    told = {name: round(value, 1) for name, value in told.items()}
    tenths = [round(sizes[place * (len(sizes) - 1) // 10]) for place in range(11)]
    name = "soak: growth of a worker that was never killed"
    tell(name, slope(longest), "MB per 100,000", FLAT, False, **told, tenths=tenths)


@contextlib.contextmanager
def _project() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "stk.toml").write_text('[project]\nname = "soak"\nprofile = "laptop"\n\n[profile.laptop]\n')
        try:
            yield folder
        finally:
            command = [sys.executable, "-m", "stk_ml", "endpoint", "delete", NAME, "--quiet"]
            subprocess.run(command, cwd=folder, check=False, capture_output=True)


def main(requests: int = REQUESTS) -> None:
    """Runs the soak."""
    with tempfile.TemporaryDirectory() as scratch, _project() as folder:
        say("training two models")
        models = [make(Path(scratch), seed) for seed in (7, 8)]
        report(*asyncio.run(soak(folder, models, requests)))
