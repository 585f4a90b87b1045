"""Takes alerts over HTTP, and has the governor decide on each: POST /alerts, GET /decisions/KEY.

stk-ml alerts serve [--port 5002]        Azure Monitor's common alert schema, or {"model": M, "kind": "drift"}
stk-ml alerts sign FILE                  the header that signs a body, for a test:
    curl -H "$(stk-ml alerts sign a.json)" --data-binary @a.json http://127.0.0.1:5002/alerts

A caller shows a bearer token (scope retrain; stk-ml token --scope retrain. From an action group's secure webhook the
role ActionGroupsSecureWebhook) or signs with the secret that --secret names. A retrain that the governor starts runs
in a process of its own, as stk-ml retrain MODEL, and goes on when this one ends.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from stk_ml.cli.output import Output
from stk_ml.errors import IdentityError, MissingLibraryError, SettingError, UnknownNameError, UsageError

if TYPE_CHECKING:
    import socket
    import subprocess

    from stk_ml.identity.protocol import Caller, TokenVerifier
    from stk_ml.model_policies import RetrainSpec
    from stk_ml.retraining.inbox import AlertDesk
    from stk_ml.retraining.signature import Secrets
    from stk_ml.settings import Settings

_LOOK = 30.0
_WAYS = ("any", "token", "signature", "none")
_SECRET = "vault:alert-signature"  # noqa: S105  a reference
#: Scopes (or roles) that may send alerts; the second is what Azure Monitor's action groups carry.
_SCOPES = ("retrain", "ActionGroupsSecureWebhook")


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the subcommands of ``stk-ml alerts``."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    serve = commands.add_parser("serve", parents=[common], help="take alerts until Ctrl+C")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, default=5002, help="port (default 5002; 0 for a free one)")
    serve.add_argument(
        "--auth", choices=_WAYS, default="any", help="what a caller has to show (default any: a token or a signature)"
    )
    serve.add_argument("--rate", type=float, default=20.0, metavar="N", help="alerts a second per caller (0: any)")
    serve.add_argument("--burst", type=int, default=200, metavar="N", help="alerts at once per caller")
    serve.set_defaults(run=run_serve)
    sign = commands.add_parser("sign", parents=[common], help="print the header that signs a request")
    what = sign.add_mutually_exclusive_group(required=True)
    what.add_argument("file", nargs="?", type=Path, metavar="FILE", help="the body that will be sent")
    what.add_argument("--path", help="for a GET: its path, /decisions/KEY")
    sign.set_defaults(run=run_sign)
    for each in (serve, sign):
        each.add_argument(
            "--secret",
            action="append",
            metavar="vault:NAME",
            help=f"what signatures count by; twice while secrets change (default {_SECRET}, made if absent)",
        )


def run_serve(args: argparse.Namespace, out: Output) -> int:
    """Takes alerts until it is told to end."""
    from stk_ml import model_spec
    from stk_ml.cli.common import open_workspace

    try:
        import uvicorn

        from stk_ml.retraining.webhook import Limits, create_app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("stk_ml"):
            raise
        raise MissingLibraryError(error.name or "fastapi", extra="serving", need="stk-ml alerts serve") from error
    from stk_ml.retraining.inbox import AlertDesk

    workspace = open_workspace(args)
    settings = workspace.settings

    def policy_of(model: str) -> RetrainSpec:
        try:
            return model_spec.load(workspace.model_file(model)).retrain
        except UnknownNameError as error:
            raise UnknownNameError("model", model, model_spec.names(settings.pipelines) or error.known) from None

    desk = AlertDesk(settings.monitoring, policy_of, _Launcher(settings))
    app = create_app(
        desk.decide,
        _verifier(settings) if args.auth in ("any", "token") else None,
        secret=_secrets(settings, args.secret) if args.auth in ("any", "signature") else None,
        find=desk.find,
        limits=Limits(rate=max(0.0, args.rate), burst=max(1, args.burst)),
        anyone=args.auth == "none",
    )
    _log_to_standard_error()
    listening = _listen(args.host, args.port)
    if args.auth == "none" and args.host not in ("127.0.0.1", "::1", "localhost"):
        out.say(f"warning: anyone who reaches {args.host} may ask for a retrain (auth is none)")
    for model in desk.resume(_known(settings)):
        out.say(f"{model}: goes on with a retrain that was interrupted")
    out.say("takes alerts at http://{}:{}/alerts".format(*listening.getsockname()[:2]))
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=256,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # uvicorn raises them again once it has ended in good order
    threading.Thread(target=_look_again, args=(desk, settings), daemon=True).start()
    uvicorn.Server(config).run(sockets=[listening])
    return 0


def _known(settings: Settings) -> list[str]:
    return sorted(file.parent.name for file in settings.monitoring.glob("*/retraining.db"))


def _look_again(desk: AlertDesk, settings: Settings) -> None:
    """Looks at once, and whenever something that waits may be over; at least each :data:`_LOOK` seconds."""
    import time
    from datetime import UTC, datetime

    while True:
        until = desk.look(_known(settings))
        seconds = (until - datetime.now(UTC)).total_seconds() if until else _LOOK
        time.sleep(min(max(seconds, 1.0), _LOOK))


def run_sign(args: argparse.Namespace, out: Output) -> int:
    """Prints the header that signs a file, or the path of a GET."""
    import time

    from stk_ml.retraining import signature
    from stk_ml.settings import Settings

    settings = Settings.load(getattr(args, "project", None), profile=getattr(args, "profile", None))
    if args.path is not None and not args.path.startswith("/"):
        raise UsageError(f"--path {args.path!r} does not begin with a slash")
    content = args.path.encode() if args.path is not None else args.file.read_bytes()
    value = signature.sign(_secrets(settings, args.secret)()[0], content, now=time.time())
    out.document({signature.HEADER: value})
    out.line(f"{signature.HEADER}: {value}")
    return 0


class _Launcher:
    """Has ``stk-ml retrain MODEL`` carry out the retrain that is in flight, one process per model at a time.

    Whoever asks while a process of the model lives gets another once that has ended: it may be done with its own run.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._alive: set[str] = set()
        self._wanted: set[str] = set()

    def __call__(self, model: str) -> None:
        with self._lock:
            if model in self._alive:
                self._wanted.add(model)
                return
            process = self._start(model)
            self._alive.add(model)
        threading.Thread(target=self._watch, args=(model, process), daemon=True).start()

    def _start(self, model: str) -> subprocess.Popen[bytes]:
        import subprocess

        where = ["--project", str(self._settings.project), "--profile", self._settings.profile]
        command = [sys.executable, "-m", "stk_ml", *where, "retrain", model, "--quiet"]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, start_new_session=True)  # noqa: S603

    def _watch(self, model: str, process: subprocess.Popen[bytes]) -> None:
        while True:
            process.wait()
            with self._lock:
                if model not in self._wanted:
                    self._alive.discard(model)
                    return
                self._wanted.discard(model)
                try:
                    process = self._start(model)
                except OSError:
                    self._alive.discard(model)
                    raise


class _AnyScope:
    """Takes a token that holds for one of several verifiers; they differ in their scopes."""

    def __init__(self, verifiers: list[TokenVerifier]) -> None:
        self._verifiers = verifiers

    def verify(self, token: str, *, now: float) -> Caller:
        """See :class:`stk_ml.identity.protocol.TokenVerifier`."""
        *others, last = self._verifiers
        for verifier in others:
            try:
                return verifier.verify(token, now=now)
            except IdentityError as error:
                if error.status != 403:
                    raise
        return last.verify(token, now=now)


def _verifier(settings: Settings) -> TokenVerifier:
    from stk_ml.identity.jwt import JwtVerifier, key_source

    keys, issuer, audience = key_source(settings.token_keys), settings.token_issuer, settings.token_audience
    return _AnyScope([JwtVerifier(keys, issuer, audience, scope) for scope in reversed(_SCOPES)])


def _secrets(settings: Settings, references: list[str] | None) -> Secrets:
    """The secrets by reference; the default one is made when there is none."""
    import secrets
    import time

    from stk_ml.retraining.signature import Secrets
    from stk_ml.vault.local import FileSecretStore
    from stk_ml.vault.references import is_reference

    store = FileSecretStore(settings.vault)
    for reference in references or ():
        if not is_reference(reference):
            raise SettingError("--secret is no reference to the vault", hint="store the secret, and give vault:NAME")
    if not references:
        store.add(_SECRET.removeprefix("vault:"), secrets.token_urlsafe(32))
    return Secrets(references or [_SECRET], store, time.monotonic)


def _listen(host: str, port: int) -> socket.socket:
    import socket

    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        hint = "give another --port"
        raise UsageError(f"{host}:{port} cannot be listened on: {error.strerror}", hint=hint) from error
    listening.listen(2048)
    return listening


def _log_to_standard_error() -> None:
    import logging

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
