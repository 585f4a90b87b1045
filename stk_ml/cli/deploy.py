"""Puts a model version behind an endpoint on this machine. It is loaded and proven before it answers anyone.

stk-ml deploy MODEL                      its champion (else the newest version) takes all traffic
stk-ml deploy MODEL:4 --canary 10        10% of it; then 50% and 100%, as long as it fares as well as the one before
stk-ml deploy MODEL:4 --shadow           none of it, but it scores copies of the requests
stk-ml deploy FOLDER                     a model artifact, without any registry

MODEL is NAME, NAME@alias or NAME:version. A canary is watched until it is promoted (exit code 0) or rolled back (1);
run the same command again to go on watching. The version before stays loaded: stk-ml endpoint rollback.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stk_ml.cli.output import Output
from stk_ml.errors import MissingLibraryError, UsageError

if TYPE_CHECKING:
    from stk_ml.deployment.local import LocalEndpointManager
    from stk_ml.deployment.protocol import EndpointReport
    from stk_ml.deployment.rollout import Rollout, RolloutPolicy
    from stk_ml.workspace import Workspace


@dataclass(frozen=True)
class Chosen:
    """The model version that is to be deployed, and the folder of its artifact."""

    model: str
    version: int
    digest: str
    artifact: Path


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the flags of ``stk-ml deploy``."""
    parser.add_argument("model", metavar="MODEL", help="NAME, NAME@alias, NAME:version or FOLDER")
    parser.add_argument("--endpoint", default="", metavar="NAME", help="its name (default: that of the model)")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--canary", type=int, nargs="?", const=10, metavar="PERCENT", help="begin with this share (default 10)"
    )
    how.add_argument("--shadow", action="store_true", help="answer nobody; score copies of the requests")
    parser.add_argument("--no-watch", action="store_true", help="leave a canary at its first step")
    place = parser.add_argument_group("where it runs")
    place.add_argument("--workers", type=int, metavar="N", help="processes (default: as before, else 1)")
    place.add_argument("--host", metavar="H", help="address to listen on (default: as before, else 127.0.0.1)")
    place.add_argument("--port", type=int, metavar="P", help="port (default: as before, else a free one that is kept)")
    place.add_argument("--tracking-uri", metavar="URI", help="MLflow store")
    policy_flags(parser.add_argument_group("what a canary must show, at each step"))
    parser.set_defaults(run=run)


def policy_flags(group: argparse._ArgumentGroup) -> None:
    """Adds the flags that say what a canary must show."""
    numbers = {
        "--min-requests": (int, "N", "requests it must have answered (default 200)"),
        "--min-seconds": (float, "S", "how long a step lasts at least (default 30)"),
        "--max-seconds": (float, "S", "after which a step that cannot tell is rolled back (default 3600)"),
        "--error-rate": (float, "X", "largest increase of the share of failed requests (default 0.01)"),
        "--latency-ratio": (float, "X", "largest ratio of the 95th percentiles of latency (default 1.5)"),
        "--score-shift": (float, "X", "largest shift of the mean score, in standard deviations (default 0.25)"),
        "--level": (float, "X", "of the intervals (default 0.95)"),
        "--crashes": (int, "N", "largest number of crashes of workers (default 2)"),
    }
    group.add_argument("--steps", metavar="A,B,100", help="percent of the traffic (default 10,50,100)")
    for flag, (kind, word, text) in numbers.items():
        group.add_argument(flag, type=kind, metavar=word, help=text)


def run(args: argparse.Namespace, out: Output) -> int:
    """Deploys, watches a canary, says where it answers."""
    from stk_ml.cli.common import open_workspace

    policy = rollout_policy(args)
    if find_spec("fastapi") is None:
        raise MissingLibraryError("fastapi", extra="serving", need="the scoring app")
    workspace = open_workspace(args, tracking_uri=args.tracking_uri)
    chosen = _choose(workspace, args.model)
    endpoint = args.endpoint or chosen.model
    manager = workspace.endpoints
    name, canary = deployment_name(manager, endpoint, chosen), args.canary is not None or args.steps is not None
    if canary and not has_champion(manager, endpoint):
        out.say(f"{name} is the first deployment of {endpoint}: it takes all traffic, there is none to compare it with")
        canary = False
    rollout: Rollout | None = None
    if answers_everyone(manager, endpoint, name) and not args.shadow:
        out.say(f"{name} answers every request of {endpoint} already")
        canary = False
    report = manager.deploy(
        endpoint,
        chosen.artifact,
        chosen.model,
        chosen.version,
        chosen.digest,
        traffic=0 if canary else 100,
        shadow=args.shadow,
        host=args.host,
        port=args.port,
        workers=args.workers,
        progress=out.say,
    )
    if canary:
        rollout = roll(workspace, endpoint, name, policy, out, watch=not args.no_watch)
        report = manager.status(endpoint)
    out.document({"endpoint": report, "deployment": name, "rollout": rollout})
    _show(report, rollout, chosen.artifact, out)
    return 1 if rollout and rollout.status in ("rolled_back", "stopped") else 0


def rollout_policy(args: argparse.Namespace) -> RolloutPolicy:
    """The policy that the flags ask for."""
    from stk_ml.deployment.rollout import RolloutPolicy

    names = [field.name for field in fields(RolloutPolicy) if hasattr(args, field.name) and field.name != "steps"]
    given: dict[str, Any] = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.steps:
        try:
            given["steps"] = tuple(int(step) for step in args.steps.split(","))
        except ValueError as error:
            raise UsageError(f"--steps: {args.steps!r} are not whole numbers", hint="such as 10,50,100") from error
    if args.shadow and given:
        raise UsageError("a shadow answers nobody, so no policy judges it", hint="leave the flags of the canary out")
    policy = RolloutPolicy(**given)
    return policy if args.canary is None or args.steps else policy.starting_at(args.canary)


def _choose(workspace: Workspace, model: str) -> Chosen:
    from stk_ml.artifact import document, manifest

    if (Path(model) / manifest.NAME).is_file():
        read, digest = document.unseal(Path(model))
        return Chosen(read.name, 0, digest, Path(model).resolve())
    version = workspace.registry.version(model)
    return Chosen(version.name, version.version, version.digest, workspace.registry.download(version))


def deployment_name(manager: LocalEndpointManager, endpoint: str, chosen: Chosen) -> str:
    """What the deployment of a model version is, or would be, called."""
    from stk_ml.deployment import state

    known = manager.status(endpoint).state if endpoint in manager.names() else state.new(endpoint)
    return state.name_for(known, chosen.version, chosen.digest)


def has_champion(manager: LocalEndpointManager, endpoint: str) -> bool:
    """Whether the endpoint exists and answers."""
    return endpoint in manager.names() and any(each.traffic for each in manager.status(endpoint).state.deployments)


def answers_everyone(manager: LocalEndpointManager, endpoint: str, name: str) -> bool:
    """Whether a deployment has all traffic, and no rollout is about to change that."""
    if endpoint not in manager.names():
        return False
    report = manager.status(endpoint)
    rolling = report.rollout is not None and report.rollout.status == "running"
    return not rolling and any(each.name == name and each.traffic == 100 for each in report.state.deployments)


def roll(
    workspace: Workspace,
    endpoint: str,
    name: str,
    policy: RolloutPolicy,
    out: Output,
    *,
    watch: bool,
    clock: Callable[[], float] = time.time,
    wait: Callable[[float], None] = time.sleep,
) -> Rollout:
    """Begins the canary rollout of a deployment, or goes on with it, and watches it to its end."""
    from stk_ml.cli.canary import Canary
    from stk_ml.deployment import roller
    from stk_ml.telemetry.local import ParquetPredictionLog

    rollout = roller.begin(workspace.endpoints, endpoint, name, policy, now=clock())
    if rollout.policy != policy:
        out.say(f"goes on with the rollout that is running, at {rollout.share}% and with the policy it began with")
    if not watch:
        return rollout
    log = ParquetPredictionLog(workspace.settings.telemetry)
    with Canary(out) as canary:
        return roller.run(workspace.endpoints, endpoint, log.observe, clock=clock, wait=wait, watcher=canary)


def _show(report: EndpointReport, rollout: Rollout | None, artifact: Path, out: Output) -> None:
    from stk_ml.cli.canary import shown
    from stk_ml.cli.endpoint import shares

    out.line(f"endpoint  {report.name} at {report.url}  (people look at {report.url}/docs)")
    out.line(f"traffic   {shares(report.state)}")
    if rollout:
        out.line(f"rollout   {shown(rollout)}")
        if rollout.status == "running":
            out.line("          nobody watches it: run the same without --no-watch, or promote or rollback by hand")
    out.line(f"try       {_curl(report, artifact)}")
    out.line(f"next      stk-ml endpoint status {report.name}")


def _curl(report: EndpointReport, artifact: Path) -> str:
    """A call that works, with one of the model's golden rows."""
    import json
    import shlex

    from stk_ml.artifact.golden import Golden

    record = dict(Golden.load(artifact).records[0])
    key = f"$(stk-ml endpoint keys {report.name} --show primary)"
    body = shlex.quote(json.dumps([record], ensure_ascii=False))
    return f"curl -s {report.url}/score -H 'content-type: application/json' -H \"x-api-key: {key}\" -d {body}"
