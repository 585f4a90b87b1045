"""The scoring app against its peers: throughput, latency, telemetry's cost, start, memory. JSON lines, and a chart.

One LightGBM model (300 trees, 31 leaves, 25 features, 5 of them categories) is trained by stk-ml and served by all.
Ours checks an API key, validates and logs telemetry; peers do none of it. Each server has one worker on one core, wrk
has another. Slices are interleaved in rounds, servers that are not measured are frozen, numbers are medians over the
rounds. The first run installs the peers from pinned lists into .bench/; one that cannot be had is told with its reason.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from serving import chart, environments, load, soak
from serving.load import Measured, Shape
from serving.model import Model, make
from serving.peers.azureml import AzureML
from serving.peers.bento import Bento
from serving.peers.echo import Echo
from serving.peers.mlflow_serve import MlflowServe
from serving.peers.mlserver import MLServer
from serving.peers.peer import Peer
from serving.peers.stk import Stk
from serving.peers.textbook import Textbook
from serving.server import FailedError, Server
from serving.tell import say, tell

OURS, OFF = Stk.name, f"{Stk.name}, telemetry off"
PEERS: Mapping[str, Callable[[], Peer]] = {
    "stk": Stk,
    "off": lambda: Stk(telemetry=False),
    "echo": Echo,
    "mlserver": MLServer,
    "textbook": Textbook,
    "bento": Bento,
    "azureml": AzureML,
    "mlflow": MlflowServe,
}
ONE, ALONE, MANY = Shape(1, 16, 3, 2000), Shape(1, 1, 2, 2000), Shape(1000, 16, 5, 8)
WARM_UP, STARTS = 1.0, 5
Results = dict[Shape, dict[str, Measured]]


def start(names: list[str], model: Model, cache: Path, stack: contextlib.ExitStack) -> dict[str, Server]:
    """The servers that can be had, checked and frozen; tells the others."""
    servers: dict[str, Server] = {}
    for name in names:
        peer = PEERS[name]()
        try:
            server = Server(peer, model, cache)
            stack.callback(server.stop)
            worst = server.check()
        except (environments.AbsentError, FailedError) as reason:
            tell(f"serving: {peer.name} is absent", None, "", reason=str(reason))
            continue
        server.pause()
        servers[peer.name] = server
        say(f"{peer.name}: ready after {server.seconds:.2f} s, largest difference of a score {worst:g}")
    return servers


def measure(servers: Mapping[str, Server], shape: Shape, rounds: int, folder: Path) -> dict[str, Measured]:
    """Interleaved slices; a server that fails one is told, and left out of this shape."""
    found = {name: Measured() for name in servers}
    for turn in range(rounds + 1):
        order = list(found) if turn % 2 else list(reversed(found))
        for name in order:
            try:
                if turn:
                    load.slice_(servers[name], shape, folder, found[name])
                else:
                    load.slice_(servers[name], shape, folder, seconds=WARM_UP)
            except FailedError as reason:
                tell(f"serving: {name} failed, {shape}", None, "", reason=str(reason))
                del found[name]
        say(f"{shape}, round {turn}: " + ", ".join(f"{n} {m.rates[-1]:.0f}" for n, m in found.items() if m.rates))
    return found


def starts(model: Model, cache: Path) -> list[float]:
    """Seconds from start to ready, of fresh processes."""
    found = []
    for _ in range(STARTS):
        server = Server(Stk(), model, cache)
        found.append(server.seconds)
        server.stop()
    return found


def report(found: Results, servers: Mapping[str, Server], memory: Mapping[str, float], ready: list[float]) -> None:
    """All numbers with their targets."""
    one, many, echo = found[ONE], found[MANY], Echo.name
    for shape, measured in found.items():
        for name in measured:
            tell(f"serving: {name}, {shape}", measured[name].told["requests/s"], "requests/s", **measured[name].told)
    targets = {
        ONE: {MlflowServe.name: 50, Textbook.name: 14, MLServer.name: 8, echo: 0.65},
        MANY: {MlflowServe.name: 4},
    }
    for shape, by_peer in targets.items():
        for name, target in by_peer.items():
            ratio(shape, found[shape], name, target)
    rivals = {name: m for name, m in many.items() if name not in (OURS, OFF, echo)}
    if rivals:
        ratio(MANY, many, max(rivals, key=lambda name: rivals[name].rate), 1.5, "the best peer, ")
    medians = {name: m.p50 for name, m in one.items() if name not in (OURS, OFF, echo)}
    if OURS in one and medians:
        tell(
            f"serving: p99, {ONE}, below every peer's p50", one[OURS].p99, "ms", min(medians.values()), False, **medians
        )
    for shape in (ONE, MANY):
        cost(shape, found[shape])
    others = {name: round(server.seconds, 2) for name, server in servers.items() if name not in (OURS, OFF)}
    if ready:
        tell(f"serving: start to ready, median of {len(ready)}", statistics.median(ready), "s", 2, False, **others)
    if OURS in memory:
        others = {name: round(value) for name, value in memory.items() if name != OURS}
        tell("serving: resident memory of the worker after load", memory[OURS], "MB", 200, False, **others)


def ratio(shape: Shape, found: Mapping[str, Measured], peer: str, target: float, what: str = "") -> None:
    """Ours as a multiple of a peer: the median of the rounds' ratios, since a round is short and a run is not."""
    if OURS in found and peer in found:
        ours, theirs = found[OURS], found[peer]
        rounds = [one / other for one, other in zip(ours.rates, theirs.rates, strict=True)]
        rates = {"ours, requests/s": ours.rate, f"{peer}, requests/s": theirs.rate, "by round": rounds}
        rates["per second of CPU, times"] = ours.per_cpu / theirs.per_cpu
        told = json.loads(json.dumps(rates), parse_float=lambda text: float(f"{float(text):.4g}"))
        tell(f"serving: {shape}, against {what}{peer}", statistics.median(rounds), "times", target, **told)


def cost(shape: Shape, found: Mapping[str, Measured]) -> None:
    """What telemetry costs, of throughput without."""
    if {OURS, OFF} <= found.keys():
        on, off = found[OURS], found[OFF]
        rounds = [1 - one / other for one, other in zip(on.rates, off.rates, strict=True)]
        each = {"by round": [round(each, 3) for each in rounds], "per second of CPU": 1 - on.per_cpu / off.per_cpu}
        tell(f"serving: telemetry's cost, {shape}", statistics.median(rounds), "of throughput", 0.1, False, **each)


def main() -> None:
    """Runs the whole comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS), help="these servers (default all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, help="of every slice")
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw an SVG")
    parser.add_argument("--nice", type=int, metavar="N", help="priority of servers and wrk, below 0 on a busy machine")
    parser.add_argument("--cache", type=Path, default=environments.CACHE, help="where the peers are installed")
    parser.add_argument(
        "--soak", type=int, nargs="?", const=soak.REQUESTS, metavar="N", help="instead: N requests while all changes"
    )
    args = parser.parse_args()
    if args.soak:
        soak.main(args.soak)
        return
    if args.nice is not None:
        os.environ["BENCH_NICE"] = str(args.nice)
    if lacking := load.missing():
        tell("serving: not measured", None, "", reason=lacking)
        return
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder, found = Path(scratch), Results()
        say("training the model")
        model = make(folder)
        ready = starts(model, args.cache) if "stk" in args.only else []
        servers = start(args.only, model, args.cache, stack)
        for shape in (ONE, ALONE, MANY):
            asked = replace(shape, seconds=args.seconds or shape.seconds)
            found[shape] = measure(servers, asked, args.rounds, folder)
        memory = {name: server.rss() for name, server in servers.items()}
        report(found, servers, memory, ready)
    if args.chart:
        args.chart.write_text(chart.draw(found[ONE], found[MANY], leave_out=(OFF,), ours=OURS))


if __name__ == "__main__":
    main()
