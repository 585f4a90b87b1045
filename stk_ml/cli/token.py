"""Prints a signed token of this laptop's own issuer, for calls to an endpoint that asks for one.

TOKEN=$(stk-ml token --subject ada)
curl -H "Authorization: Bearer $TOKEN" ...

The issuer (a key pair beside the setting token_keys) is made when there is none. Where token_keys is a URL, tokens come
from there: for Entra ID, az account get-access-token --scope AUDIENCE/.default
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from stk_ml.cli.output import Output
from stk_ml.errors import SettingError, UsageError

_DAY = 24 * 60


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the flags of ``stk-ml token``."""
    parser.add_argument("--subject", default="developer", metavar="S", help="whom it names (default developer)")
    parser.add_argument("--scope", default="score", help="what it allows, words divided by spaces (default score)")
    parser.add_argument("--minutes", type=float, default=60, metavar="N", help="how long it counts (default 60)")
    parser.add_argument("--rotate", action="store_true", help="sign with a new key; tokens of the last one still count")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """Prints one token."""
    from stk_ml.identity.local import JWKS, DevIssuer
    from stk_ml.settings import Settings

    settings = Settings.load(getattr(args, "project", None), profile=getattr(args, "profile", None))
    keys = Path(settings.token_keys)
    if "://" in settings.token_keys or keys.name != JWKS:
        raise SettingError(
            f"token_keys is {settings.token_keys}, whose issuer is not this laptop",
            hint=f"get a token from {settings.token_issuer}, or set token_keys to a file called {JWKS}",
        )
    if not 0 < args.minutes <= _DAY:
        raise UsageError(f"--minutes {args.minutes:g} is not above 0 and at most {_DAY}")
    issuer = DevIssuer(keys.parent, settings.token_issuer)
    if args.rotate:
        issuer.rotate()
    now, seconds = time.time(), args.minutes * 60
    token = issuer.issue(args.subject, settings.token_audience, args.scope.split(), seconds, now)
    out.document({"token": token, "subject": args.subject, "scope": args.scope, "expires": int(now + seconds)})
    out.line(token)
    return 0
