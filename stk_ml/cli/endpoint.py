"""Endpoints on this machine. NAME may be left out while there is one only.

stk-ml endpoint status [NAME]            deployments, workers, rollout; exit code 1 when one does not answer
stk-ml endpoint traffic [NAME] v3=90 v4=10
stk-ml endpoint promote [NAME]           the newest deployment takes all traffic
stk-ml endpoint rollback [NAME]          the deployment before takes all traffic
stk-ml endpoint delete NAME              the endpoint with its processes, models, logs and keys
stk-ml endpoint start|stop [NAME]        after a reboot, before a break
stk-ml endpoint logs [NAME] [--follow]
stk-ml endpoint keys [NAME]              the API keys; shown only with --show
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from stk_ml.cli.output import Output
from stk_ml.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from stk_ml.deployment.local import LocalEndpointManager
    from stk_ml.deployment.protocol import EndpointReport
    from stk_ml.endpoint_state import EndpointState
    from stk_ml.workspace import Workspace

_KEYS = ("primary", "secondary")


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the subcommands of ``stk-ml endpoint``."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def add(name: str, run: Any, text: str, *, named: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, parents=[common], help=text, description=text, allow_abbrev=False)
        if named:
            command.add_argument("name", nargs="?", default="", metavar="NAME")
        command.set_defaults(run=run)
        return command

    add("status", run_status, "deployments, workers and rollout of an endpoint, or of all")
    traffic = add("traffic", run_traffic, "set the percent of the requests of each deployment", named=False)
    traffic.add_argument("words", nargs="+", metavar="[NAME] DEPLOYMENT=PERCENT")
    promote = add("promote", run_promote, "give all traffic to the newest deployment")
    promote.add_argument("--deployment", default="", metavar="D", help="to this one instead")
    add("rollback", run_rollback, "give all traffic to the deployment before")
    delete = add("delete", run_delete, "remove an endpoint, or one deployment without traffic", named=False)
    delete.add_argument("name", metavar="NAME")
    delete.add_argument("--deployment", default="", metavar="D", help="remove only this one")
    start = add("start", run_start, "start the processes of an endpoint, or change their number")
    start.add_argument("--workers", type=int, metavar="N", help="processes")
    start.add_argument("--host", metavar="H", help="address to listen on")
    start.add_argument("--port", type=int, metavar="P", help="port")
    add("stop", run_stop, "end the processes once they have answered what they have begun")
    logs = add("logs", run_logs, "what the processes wrote, by time")
    logs.add_argument("--lines", type=int, default=100, metavar="N", help="the newest so many (default 100)")
    logs.add_argument("--follow", action="store_true", help="go on with what comes, until Ctrl+C")
    keys = add("keys", run_keys, "the API keys: which are set, show one, replace one")
    keys.add_argument("--show", choices=_KEYS, help="print this key and nothing else")
    keys.add_argument("--regenerate", choices=_KEYS, help="replace this key; the other stays valid")


def run_status(args: argparse.Namespace, out: Output) -> int:
    """Shows how the endpoints fare; exit code 1 when one that has deployments does not answer."""
    manager = _workspace(args).endpoints
    names = [_one(manager, args.name)] if args.name else manager.names()
    reports = [manager.status(name) for name in names]
    out.document(reports[0] if args.name else reports)
    if not reports:
        out.line("there are no endpoints yet; make one with stk-ml deploy MODEL")
    for report in reports:
        _show(report, out)
    return 0 if all(report.ready or not report.state.deployments for report in reports) else 1


def run_traffic(args: argparse.Namespace, out: Output) -> int:
    """Sets the shares."""
    manager = _workspace(args).endpoints
    first, words = ("", args.words) if "=" in args.words[0] else (args.words[0], args.words[1:])
    wanted: dict[str, int] = {}
    for word in words:
        deployment, _, share = word.partition("=")
        if not share.strip("%").isdigit() or deployment in wanted:
            raise UsageError(f"{word!r} is not DEPLOYMENT=PERCENT, once each", hint="such as v3=90 v4=10")
        wanted[deployment] = int(share.strip("%"))
    if not wanted:
        raise UsageError("no shares are given", hint="such as stk-ml endpoint traffic v3=90 v4=10")
    return _changed(manager.traffic(_one(manager, first), wanted, progress=out.say), out)


def run_promote(args: argparse.Namespace, out: Output) -> int:
    """Gives all traffic to the newest deployment."""
    manager = _workspace(args).endpoints
    return _changed(manager.promote(_one(manager, args.name), args.deployment, progress=out.say), out)


def run_rollback(args: argparse.Namespace, out: Output) -> int:
    """Gives all traffic to the deployment before."""
    manager = _workspace(args).endpoints
    return _changed(manager.rollback(_one(manager, args.name), progress=out.say), out)


def run_delete(args: argparse.Namespace, out: Output) -> int:
    """Removes an endpoint, or one of its deployments."""
    manager = _workspace(args).endpoints
    manager.delete(args.name, args.deployment, progress=out.say)
    out.document({"deleted": args.name, "deployment": args.deployment})
    out.line(f"{args.deployment or 'endpoint'} {'of ' if args.deployment else ''}{args.name} is gone")
    return 0


def run_start(args: argparse.Namespace, out: Output) -> int:
    """Starts the processes of an endpoint."""
    manager = _workspace(args).endpoints
    name = _one(manager, args.name)
    return _changed(manager.start(name, host=args.host, port=args.port, workers=args.workers, progress=out.say), out)


def run_stop(args: argparse.Namespace, out: Output) -> int:
    """Ends the processes of an endpoint."""
    manager = _workspace(args).endpoints
    name = _one(manager, args.name)
    ran = manager.stop(name, progress=out.say)
    out.document({"endpoint": name, "ran": ran})
    out.line(f"{name} has ended" if ran else f"{name} did not run")
    return 0


def run_logs(args: argparse.Namespace, out: Output) -> int:
    """Shows what the processes wrote."""
    if args.follow and out.json:
        raise UsageError("--follow never ends, so it is no document", hint="leave --json or --follow out")
    manager = _workspace(args).endpoints
    lines = manager.logs(_one(manager, args.name), lines=args.lines, follow=args.follow)
    if out.json:
        out.document(list(lines))
    for line in lines:
        print(line, flush=args.follow)
    return 0


def run_keys(args: argparse.Namespace, out: Output) -> int:
    """Tells which keys are set; shows or replaces one when asked."""
    from stk_ml.vault import keys

    manager = _workspace(args).endpoints
    # Keys are there without an endpoint too: stk-ml serve makes them, under the name of its model.
    name = args.name if args.name in keys.by_endpoint(manager.vault.names()) else _one(manager, args.name)
    if args.regenerate:
        keys.regenerate(manager.vault, name, args.regenerate)
        out.say(f"the {args.regenerate} key of {name} is new; the old one ends within a second, the other stays valid")
    found = dict(keys.read(manager.vault, name))
    if args.show:
        if args.show not in found:
            raise UnknownNameError("key", args.show, found, hint="stk-ml endpoint start and stk-ml serve make both")
        out.document({"endpoint": name, args.show: found[args.show]})
        out.line(found[args.show])
        return 0
    out.document({"endpoint": name, "keys": list(found)})
    if not args.regenerate:
        out.table(f"API keys of {name}", ["key", ""], [[key, "set" if key in found else "missing"] for key in _KEYS])
    out.line(f"show one with stk-ml endpoint keys {name} --show primary; send it as the header x-api-key")
    return 0


def shares(state: EndpointState) -> str:
    """The traffic in one line: ``v3 90%, v4 10%, v5 shadow``."""
    words = [f"{each.name} {'shadow' if each.shadow else f'{each.traffic}%'}" for each in state.deployments]
    return ", ".join(words) or "none"


def _changed(report: EndpointReport, out: Output) -> int:
    out.document(report)
    out.line(f"{report.name} at {report.url}: {shares(report.state)}")
    return 0


def _show(report: EndpointReport, out: Output) -> None:
    from stk_ml.cli.canary import shown

    where = f"{report.url}, pid {report.pid}" if report.running else "does not run"
    out.line(f"endpoint  {report.name}: {where}")
    rows = [
        [each.name, f"{each.model}:{each.version}", each.digest[:12], "shadow" if each.shadow else f"{each.traffic}%"]
        for each in report.state.deployments
    ]
    out.table("", ["deployment", "model", "digest", "traffic"], rows, right=(3,))
    workers = [
        [
            each.index,
            each.pid,
            "ready" if each.ready else "not ready",
            f"{each.requests:,}",
            each.errors,
            f"{each.p50 * 1e3:.2f}",
            f"{each.p99 * 1e3:.2f}",
            f"{each.memory / 2**20:.0f}",
            report.restarts[each.index],
            each.error,
        ]
        for each in report.workers
    ]
    columns = ["worker", "pid", "", "requests", "errors", "p50 ms", "p99 ms", "MB", "restarts", ""]
    if workers:
        out.table("", columns, workers, right=(0, 1, 3, 4, 5, 6, 7, 8))
    if report.rollout:
        out.line(f"rollout   {shown(report.rollout)}")
    if not report.running:
        out.line(f"next      stk-ml endpoint start {report.name}")


def _one(manager: LocalEndpointManager, name: str) -> str:
    """The endpoint of that name; the only one when none is given."""
    known = manager.names()
    if name:
        return manager.folder(name).name
    if len(known) == 1:
        return known[0]
    hint = f"there are: {', '.join(known)}" if known else "there are none yet; stk-ml deploy MODEL makes one"
    raise UsageError("name the endpoint", hint=hint)


def _workspace(args: argparse.Namespace) -> Workspace:
    from stk_ml.cli.common import open_workspace

    return open_workspace(args)
