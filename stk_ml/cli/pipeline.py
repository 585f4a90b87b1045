"""Runs Azure ML v2 pipeline files on this machine, also those that know nothing of stk-ml.

stk-ml pipeline run FILE.yml [--set inputs.x=VALUE]
stk-ml pipeline check FILE.yml
"""

from __future__ import annotations

import argparse
from pathlib import Path

from stk_ml.cli.output import Output
from stk_ml.errors import UsageError


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the subcommands of ``stk-ml pipeline``."""
    shared = argparse.ArgumentParser(add_help=False, parents=[common])
    shared.add_argument("file", type=Path, metavar="FILE", help="an Azure ML pipeline job (YAML)")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    run = commands.add_parser("run", parents=[shared], help="run it, skipping steps whose inputs have not changed")
    run.add_argument(
        "--set", action="append", default=[], dest="sets", metavar="inputs.x=VALUE", help="set an input (repeatable)"
    )
    run.add_argument(
        "--force", action="append", default=[], metavar="STEP", help="run this step even when cached (repeatable)"
    )
    run.add_argument("--output-dir", type=Path, metavar="DIR", help="where to put the pipeline's outputs")
    run.set_defaults(run=run_pipeline)

    check = commands.add_parser("check", parents=[shared], help="tell whether it would run here, and what is ignored")
    check.set_defaults(run=run_check)


def run_pipeline(args: argparse.Namespace, out: Output) -> int:
    """Runs a pipeline file."""
    from stk_ml.cli.common import open_workspace
    from stk_ml.cli.events import Watcher
    from stk_ml.orchestration.parse import load_pipeline

    pipeline = load_pipeline(args.file)
    inputs = dict(_assignment(text) for text in args.sets)
    with Watcher(out) as watcher:
        result = (
            open_workspace(args).runner(watcher).run(pipeline, inputs, output_dir=args.output_dir, force=args.force)
        )
    steps = {
        name: {"status": s.status, "seconds": s.seconds, "log": s.log, "outputs": s.outputs}
        for name, s in result.steps.items()
    }
    out.document({"id": result.id, "steps": steps, "outputs": result.outputs})
    rows = [[name, step.status, f"{step.seconds:.1f}", step.log] for name, step in result.steps.items()]
    out.table(pipeline.display_name or pipeline.name, ["step", "", "seconds", "log"], rows, right=(2,))
    for name, path in result.outputs.items():
        out.line(f"output  {name}: {path}")
    return 0


def run_check(args: argparse.Namespace, out: Output) -> int:
    """Checks a pipeline file without running it."""
    from stk_ml.orchestration.parse import check, load_pipeline

    pipeline = load_pipeline(args.file)
    notes = check(pipeline)
    steps = [
        {"name": step.name, "command": step.command, "depends": step.depends, "deterministic": step.is_deterministic}
        for step in pipeline.steps.values()
    ]
    out.document({"file": args.file, "steps": steps, "notes": notes})
    rows = [[step.name, ", ".join(step.depends), " ".join(step.command.split())] for step in pipeline.steps.values()]
    out.table(f"{args.file}: runs here", ["step", "after", "command"], rows)
    for note in notes:
        out.line(f"note  {note}")
    return 0


def _assignment(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found or not name.startswith("inputs.") or name == "inputs.":
        raise UsageError(
            f"--set {text!r} is not of the form inputs.x=VALUE", hint="for example --set inputs.rounds=200"
        )
    return name.removeprefix("inputs."), value
