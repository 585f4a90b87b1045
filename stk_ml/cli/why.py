"""Tells why a step of the last pipeline run ran, or was taken from the cache: what changed since the run before.

stk-ml why fit
"""

from __future__ import annotations

import argparse

from stk_ml.cli.output import Output


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the flags of ``stk-ml why``."""
    parser.add_argument("step", metavar="STEP", help="name of a step")
    parser.add_argument("--pipeline", metavar="NAME", help="of which pipeline (default: the one that ran last)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """Explains one step."""
    from stk_ml.orchestration.why import why
    from stk_ml.settings import Settings

    settings = Settings.load(getattr(args, "project", None), profile=getattr(args, "profile", None))
    answer = why(settings.cache, args.step, pipeline=args.pipeline)
    out.document(answer)
    out.line(str(answer))
    return 0
