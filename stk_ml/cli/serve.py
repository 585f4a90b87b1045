"""Runs the scoring app in the foreground, on this machine or in a container.

stk-ml serve MODEL[@alias|:version]      a registered model
stk-ml serve FOLDER                      a model artifact, without any registry
stk-ml serve                             the artifact at or below AZUREML_MODEL_DIR

Answers POST /score, /invocations and /v2/models/NAME/infer; people look at /docs. Ctrl+C or SIGTERM ends it once the
requests in work are answered.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stk_ml.cli.output import Output
from stk_ml.errors import MissingLibraryError, UsageError

if TYPE_CHECKING:
    import socket

    from stk_ml.deployment.folder import Folder
    from stk_ml.endpoint_state import Deployment, WorkerStatus
    from stk_ml.serving.limits import Limits
    from stk_ml.settings import Settings


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the flags of ``stk-ml serve``."""
    parser.add_argument(
        "model", nargs="?", default="", metavar="MODEL", help="NAME, NAME@alias, NAME:version or FOLDER"
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=5001, help="port (default 5001; 0 for a free one)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes (default 1)")
    parser.add_argument(
        "--auth", metavar="HOW", help="any, key, token or none: what a caller has to show (default any)"
    )
    parser.add_argument("--no-telemetry", action="store_true", help="log nothing of what is scored")
    parser.add_argument("--no-compile", action="store_true", help="score through LightGBM only, compile nothing")
    parser.add_argument(
        "--flush", type=float, default=10.0, metavar="S", help="seconds between two writes of telemetry"
    )
    parser.add_argument("--max-body", type=int, metavar="BYTES", help="largest body (default 16 MiB)")
    parser.add_argument("--max-rows", type=int, metavar="N", help="most rows of a request (default 100,000)")
    parser.add_argument("--max-requests", type=int, metavar="N", help="requests in work at once, per worker (256)")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds for one request (default 30)")
    hidden = {"help": argparse.SUPPRESS}
    parser.add_argument("--endpoint-folder", type=Path, **hidden)  # type: ignore[arg-type]
    parser.add_argument("--fd", type=int, default=-1, **hidden)  # type: ignore[arg-type]
    parser.add_argument("--worker", type=int, default=0, **hidden)  # type: ignore[arg-type]
    parser.add_argument("--resolved", default="", **hidden)  # type: ignore[arg-type]
    parser.add_argument("--identity", default="", **hidden)  # type: ignore[arg-type]
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """Serves until it is told to end."""
    from stk_ml.settings import Settings

    project, profile = getattr(args, "project", None), getattr(args, "profile", None)
    settings = Settings.load(project, profile=profile, flags={"auth": args.auth})
    try:
        from stk_ml.serving import launch
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stk_ml"):
            raise
        raise MissingLibraryError(error.name or "fastapi", extra="serving", need="stk-ml serve") from error
    if args.endpoint_folder is not None:
        return _serve(args, settings, out, args.endpoint_folder.name)
    folder = launch.artifact_folder(args.resolved or args.model)
    if folder is None:
        return _resolve(args)
    name, _, version = args.identity.partition(":")
    deployment = launch.deployment(folder, name, int(version or 0))
    if settings.auth == "none" and args.host not in ("127.0.0.1", "::1", "localhost"):
        out.say(f"warning: anyone who reaches {args.host} may score (auth is none)")
    if args.workers > 1:
        return _several(args, settings, out, deployment)
    return _serve(args, settings, out, deployment.model, deployment)


def _resolve(args: argparse.Namespace) -> int:
    """Fetches a registered model and runs anew: what the registry has imported would stay in the worker's memory."""
    from stk_ml.cli.common import open_workspace

    registry = open_workspace(args).registry
    version = registry.version(args.model)
    identity = f"{version.name}:{version.version}"
    found = ["--resolved", str(registry.download(identity)), "--identity", identity]
    os.execv(sys.executable, [sys.executable, "-m", "stk_ml", *sys.argv[1:], *found])  # noqa: S606


def _serve(
    args: argparse.Namespace, settings: Settings, out: Output, endpoint: str, deployment: Deployment | None = None
) -> int:
    from stk_ml.serving import launch, worker

    _log_to_standard_error()
    listening = _listen(args)
    where = "http://{}:{}".format(*listening.getsockname()[:2])
    telemetry = launch.no_telemetry() if args.no_telemetry else launch.telemetry(settings, endpoint, every=args.flush)

    def announce(app: object) -> None:
        if deployment:
            out.say(_where(deployment, where, settings.auth))

    worker.run(
        listening,
        telemetry,
        launch.verifier(settings, endpoint, create=deployment is not None),
        deployments=[deployment] if deployment else (),
        endpoint=args.endpoint_folder,
        index=args.worker,
        limits=_limits(args),
        cache=None if args.no_compile else settings.cache / "scorers",
        secured=settings.auth != "none",
        announce=announce,
    )
    return 0


def _several(args: argparse.Namespace, settings: Settings, out: Output, deployment: Deployment) -> int:
    """Several workers behind one socket, supervised as those of an endpoint are; its folder goes with this process."""
    import tempfile
    import threading

    from stk_ml import contracts
    from stk_ml.deployment.folder import Folder
    from stk_ml.deployment.supervisor import Supervisor
    from stk_ml.endpoint_state import EndpointState
    from stk_ml.serving import launch

    _log_to_standard_error()
    launch.verifier(settings, deployment.model, create=True)
    listening = _listen(args)
    with tempfile.TemporaryDirectory(prefix="stk-ml-serve-") as top:
        folder = Folder(Path(top) / deployment.model)
        for path in (folder.workers, folder.logs):
            path.mkdir(parents=True)
        contracts.write(EndpointState(deployment.model, 1, (deployment,)), folder.state_file)
        command = [sys.executable, "-m", "stk_ml", "serve", "--endpoint-folder", str(folder.path), *_handed_on(args)]
        supervisor = Supervisor(folder, command, listening, args.workers)
        where = _where(deployment, "http://{}:{}".format(*listening.getsockname()[:2]), settings.auth)
        watcher = threading.Thread(target=_watch, args=(folder, args.workers, out, where), daemon=True)
        watcher.start()
        supervisor.run()
    return 0


def _watch(folder: Folder, workers: int, out: Output, where: str) -> None:
    """Tells where once every worker answers, and what keeps one from it."""
    import time

    told = ""
    while folder.path.is_dir():
        statuses = _statuses(folder)
        if len(statuses) == workers and all(status.ready for status in statuses):
            out.say(where)
            return
        trouble = next((status.error for status in statuses if status.error), "")
        if trouble and trouble != told:
            told = trouble
            out.say(f"error: {trouble}")
        time.sleep(0.05)


def _statuses(folder: Folder) -> list[WorkerStatus]:
    from stk_ml import contracts
    from stk_ml.endpoint_state import WorkerStatus
    from stk_ml.errors import StorageError

    found = []
    for file in folder.workers.glob("[0-9]*.json"):
        with contextlib.suppress(StorageError):
            found.append(contracts.read(WorkerStatus, file))
    return found


def _handed_on(args: argparse.Namespace) -> list[str]:
    """The flags that each worker gets too."""
    names = ("project", "profile", "auth", "flush", "max_body", "max_rows", "max_requests", "timeout")
    given = {name: getattr(args, name, None) for name in names}
    words = [word for name, value in given.items() if value is not None for word in (_flag(name), str(value))]
    return [*words, *(_flag(name) for name in ("no_telemetry", "no_compile") if getattr(args, name))]


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _where(deployment: Deployment, where: str, auth: str) -> str:
    lines = [f"{deployment.model}:{deployment.version} at {where}/score; people look at {where}/docs"]
    if auth in ("any", "key"):
        lines.append(f"a key: stk-ml endpoint keys {deployment.model} --show primary")
    return "\n".join(lines)


def _listen(args: argparse.Namespace) -> socket.socket:
    import socket

    if args.fd >= 0:
        return socket.socket(fileno=args.fd)
    family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((args.host, args.port))
    except OSError as error:
        raise UsageError(
            f"{args.host}:{args.port} cannot be listened on: {error.strerror}", hint="give another --port"
        ) from error
    listening.listen(2048)
    return listening


def _limits(args: argparse.Namespace) -> Limits:
    from stk_ml.serving.limits import Limits

    given = {
        "body_bytes": args.max_body,
        "rows": args.max_rows,
        "concurrency": args.max_requests,
        "seconds": args.timeout,
    }
    wrong = {name: value for name, value in given.items() if value is not None and value <= 0}
    if wrong:
        raise UsageError(f"a limit must be above 0, not {next(iter(wrong.values()))}")
    return Limits(**{name: value for name, value in given.items() if value is not None})


def _log_to_standard_error() -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
