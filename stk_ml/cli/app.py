"""``stk-ml``: finds the command, parses its flags, runs it, and tells errors in one line and a hint.

A command is a module with ``configure(parser)`` and functions ``run(args, out) -> int``. The table below names it with
its one-line help, so that ``stk-ml --help`` imports no command and ``stk-ml COMMAND --help`` only that one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import argparse

COMMANDS = {
    "init": "lay out a working project in a folder",
    "example": "load real example data into the lake",
    "demo": "replay a real year: train, serve, watch, retrain; a page tells what it was worth",
    "train": "train a model: features, fit, evaluate, gate, register",
    "features": "list, build, pull and check the feature views",
    "models": "list, show, compare and promote registered models",
    "score": "score a file of rows: CSV, Parquet, JSON or Arrow",
    "serve": "run the scoring app in the foreground",
    "deploy": "put a model version behind a local endpoint, at once or as a watched canary",
    "monitor": "watch what a model scores: drift, broken data, performance; compare two tables",
    "retrain": "train again when the governor says so: decide, run, canary, status",
    "alerts": "take alerts over HTTP and have the governor decide on them; sign one for a test",
    "schedule": "run pipelines by the clock: apply, list, run, crontab",
    "trace": "tell what made a prediction: from a request id back to the raw tables",
    "endpoint": "see and change the endpoints: status, traffic, promote, rollback, logs, keys",
    "pipeline": "run or check any Azure ML pipeline file",
    "why": "tell why a pipeline step ran, or did not",
    "token": "print a signed token of this laptop's own issuer, to call an endpoint with",
    "doctor": "check the settings, the store, the lake and the libraries",
    "step": "one step of pipelines/train.yml (fit, evaluate, register)",
}
USAGE = "usage: stk-ml [-h] [--version] COMMAND ..."
COMMON = ("--json", "--quiet", "--debug", "--project", "--profile")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code: 0, 1 for a failure, 2 for the user's mistake."""
    words = list(sys.argv[1:] if argv is None else argv)
    flags, words = _leading_flags(words)
    try:
        code = _dispatch(words, flags)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    return code


def _dispatch(words: list[str], flags: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0 if words else 2
    if words[0] in ("-V", "--version"):
        from stk_ml import __version__

        print(f"stk-ml {__version__}")
        return 0
    return _run(words[0], [*words[1:], *flags])


def invoke(argv: Sequence[str], environ: Mapping[str, str], folder: Path) -> int:
    """Runs ``stk-ml ...`` in this process as a pipeline step: with its own environment and current folder.

    Called from the main thread only, one at a time: the environment and the current folder belong to the process.
    """
    before, here = dict(os.environ), Path.cwd()
    try:
        os.environ.clear()
        os.environ.update(environ)
        os.chdir(folder)
        return main(argv[1:] if argv and Path(argv[0]).name == "stk-ml" else argv)
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)


def _leading_flags(words: list[str]) -> tuple[list[str], list[str]]:
    """Common flags may stand before the command too: ``stk-ml --json models list``."""
    flags: list[str] = []
    while words and words[0].split("=")[0] in COMMON:
        takes_value = words[0] in ("--project", "--profile")
        count = 2 if takes_value and len(words) > 1 else 1
        flags, words = flags + words[:count], words[count:]
    return flags, words


def _run(name: str, words: list[str]) -> int:
    from stk_ml.cli.output import Output
    from stk_ml.errors import StepFailedError, StkMlError, UnknownNameError

    out = Output(json="--json" in words, quiet="--quiet" in words)
    try:
        if name not in COMMANDS:
            raise UnknownNameError("command", name, COMMANDS)
        parser = _parser(name)
        args = parser.parse_args(words)
        with out.standard_output():
            return int(args.run(args, out) or 0)
    except StkMlError as error:
        if "--debug" in words:
            raise
        out.error(error)
        return 2 if isinstance(error, StepFailedError) and error.code == 2 else error.exit_code
    except SystemExit as stop:  # argparse has printed its help
        return int(stop.code or 0)
    except KeyboardInterrupt:
        out.say("interrupted; run the same again to go on")
        return 130
    except BrokenPipeError:
        raise
    except OSError as error:
        if "--debug" in words:
            raise
        out.error(_of_the_system(error))
        return 1
    except Exception as error:
        if "--debug" in words:
            raise
        out.error(
            StkMlError(f"unexpected {type(error).__name__}: {error}", hint="this is a defect; --debug shows where")
        )
        return 1


def _of_the_system(error: OSError) -> Exception:
    from stk_ml.errors import StorageError

    where = f" ({error.filename})" if error.filename else ""
    return StorageError(f"{error.strerror or error}{where}", hint="is there space, and may you read and write there?")


def _parser(name: str) -> argparse.ArgumentParser:
    import argparse

    from stk_ml.errors import UsageError

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise UsageError(message, hint=f"{self.prog} --help")

    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("common")
    group.add_argument("--json", action="store_true", help="one JSON document on standard output, nothing else there")
    group.add_argument("--quiet", action="store_true", help="no progress")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
    group.add_argument("--project", metavar="DIR", help="the project's folder (default: the nearest with stk.toml)")
    group.add_argument("--profile", metavar="NAME", help="profile in stk.toml")
    module = import_module(f"stk_ml.cli.{name}")
    parser = Parser(
        prog=f"stk-ml {name}",
        description=(module.__doc__ or "").strip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
        allow_abbrev=False,
    )
    module.configure(parser, common)
    return parser


def _help() -> str:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return f"""{USAGE}

Declare a model once, in files; train, gate and register it on a laptop and on Azure.

commands:
{listed}

Every command takes --help, --json, --quiet, --debug, --project DIR, --profile NAME.
First steps:  stk-ml init flights && cd flights && stk-ml example flights && stk-ml train flight-delay"""
