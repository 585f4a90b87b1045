"""Registered models. REF is NAME (its champion, else the newest), NAME@champion or NAME:3.

stk-ml models list [NAME]                names, or the versions of one
stk-ml models show REF                   metrics, tags, where it is
stk-ml models compare REF REF            metrics side by side
stk-ml models promote REF                make a version the champion, by a person's decision
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from stk_ml.cli.output import Output
from stk_ml.errors import UsageError

if TYPE_CHECKING:
    from stk_ml.workspace import Workspace


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the subcommands of ``stk-ml models``."""
    shared = argparse.ArgumentParser(add_help=False, parents=[common])
    shared.add_argument("--tracking-uri", metavar="URI", help="MLflow store")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    listing = commands.add_parser("list", parents=[shared], help="names, or the versions of one")
    listing.add_argument("name", nargs="?", default="", metavar="NAME")
    listing.set_defaults(run=run_list)

    show = commands.add_parser("show", parents=[shared], help="metrics, tags, where it is")
    show.add_argument("ref", metavar="REF")
    show.set_defaults(run=run_show)

    compare = commands.add_parser("compare", parents=[shared], help="metrics of two versions side by side")
    compare.add_argument("first", metavar="REF")
    compare.add_argument("second", metavar="REF")
    compare.set_defaults(run=run_compare)

    promote = commands.add_parser(
        "promote", parents=[shared], help="make a version the champion, by a person's decision"
    )
    promote.add_argument("ref", metavar="REF")
    promote.add_argument("--why", default="", help="recorded; needed to override the gate")
    promote.set_defaults(run=run_promote)

    champion = commands.add_parser(
        "champion", parents=[shared], help="write which version is champion now (a pipeline step)"
    )
    champion.add_argument("--model", required=True, metavar="M", help="name of a model, or path of its YAML file")
    champion.add_argument("--out", required=True, type=Path, metavar="FILE")
    champion.set_defaults(run=run_champion)


def run_list(args: argparse.Namespace, out: Output) -> int:
    """Lists names, or the versions of one."""
    registry = _workspace(args).registry
    versions = [v for name in ([args.name] if args.name else registry.names()) for v in registry.versions(name)]
    out.document(versions)
    rows = [
        [v.name, v.version, ", ".join(v.aliases), v.created, v.digest[:12], v.tags.get("gate.outcome", "")]
        for v in versions
    ]
    out.table("", ["model", "version", "aliases", "created", "digest", "gate"], rows, right=(1,))
    return 0


def run_show(args: argparse.Namespace, out: Output) -> int:
    """Shows one version."""
    details = _workspace(args).registry.show(args.ref)
    out.document(details)
    version = details.version
    out.line(f"{version.name}:{version.version} [{', '.join(version.aliases)}]  digest {version.digest}")
    out.table(
        "metrics",
        ["metric", "value"],
        [[name, f"{value:.4f}"] for name, value in sorted(details.metrics.items())],
        right=(1,),
    )
    out.table("tags", ["tag", "value"], sorted(version.tags.items()))
    out.line(f"run    {version.run_id}")
    out.line(f"where  {details.where}")
    return 0


def run_compare(args: argparse.Namespace, out: Output) -> int:
    """Shows the metrics of two versions side by side."""
    rows = _workspace(args).registry.compare(args.first, args.second)
    out.document([{"metric": name, args.first: a, args.second: b} for name, a, b in rows])
    shown = [[name, _number(a), _number(b), _number(None if a is None or b is None else b - a)] for name, a, b in rows]
    out.table("", ["metric", args.first, args.second, "difference"], shown, right=(1, 2, 3))
    return 0


def run_promote(args: argparse.Namespace, out: Output) -> int:
    """Makes a version the champion, by a person's decision."""
    registry = _workspace(args).registry
    chosen = registry.version(args.ref)
    outcome = chosen.tags.get("gate.outcome", "")
    if outcome in ("refused", "worse", "cannot_tell") and not args.why:
        message = f"the gate did not promote {chosen.name}:{chosen.version} ({outcome})"
        raise UsageError(message, hint="to override it, say --why; it is recorded with the promotion")
    version = registry.promote(chosen.name, chosen.version, why=args.why)
    out.document(version)
    out.line(f"{version.name}:{version.version} is the champion")
    return 0


def run_champion(args: argparse.Namespace, out: Output) -> int:
    """Writes which version of a model is champion now."""
    from stk_ml import model_spec
    from stk_ml.contracts import write
    from stk_ml.registry import pointer

    workspace = _workspace(args)
    name = model_spec.load(workspace.model_file(args.model)).name
    champion = pointer.champion(workspace.settings.tracking_uri, name) or workspace.registry.champion(name)
    write(champion, args.out)
    out.document(champion)
    out.line(f"{name}: version {champion.version}" if champion.version else f"{name}: no champion yet")
    return 0


def _workspace(args: argparse.Namespace) -> Workspace:
    from stk_ml.cli.common import open_workspace

    return open_workspace(args, tracking_uri=args.tracking_uri)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
