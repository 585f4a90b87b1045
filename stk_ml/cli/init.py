"""Lays out a working project: stk.toml, pipelines (with the flights example), environments and deploy.

stk-ml init flights && cd flights && stk-ml example flights && stk-ml train flight-delay
"""

from __future__ import annotations

import argparse
from pathlib import Path

from stk_ml.cli.output import Output
from stk_ml.errors import UsageError

_SETTINGS = """\
# Settings: flag > STK_ML_NAME in the environment > the profile here > default. `stk-ml doctor` shows them.
[project]
name = "{name}"
profile = "laptop"

[profile.laptop]
lake = ".stk/lake"
tracking_uri = "sqlite:///.stk/mlflow.db"
"""
_IGNORE = """\
.stk/
.venv/
__pycache__/
"""


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the flags of ``stk-ml init``."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="new or empty folder")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """Lays the project out; an existing file is never overwritten."""
    folder: Path = args.folder
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file", hint="name a folder")
    planned = files(folder.resolve().name)
    taken = sorted(str(path) for path in planned if (folder / path).exists())
    if taken:
        raise UsageError(f"{folder} already holds {', '.join(taken[:3])}", hint="name a new or empty folder")
    for path, content in planned.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    out.document({"folder": folder, "files": sorted(map(str, planned))})
    out.line(f"{len(planned)} files in {folder}")
    out.line(f"next  cd {folder} && stk-ml example flights && stk-ml train flight-delay")
    return 0


def files(name: str) -> dict[Path, bytes]:
    """What a new project of that name holds: path below it -> content."""
    from stk_ml.workspace import resource

    found = {Path("stk.toml"): _SETTINGS.format(name=name).encode(), Path(".gitignore"): _IGNORE.encode()}
    for part in ("pipelines", "environments", "deploy"):
        root = resource(part)
        for file in sorted(root.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                found[Path(part) / file.relative_to(root)] = file.read_bytes()
    return found
