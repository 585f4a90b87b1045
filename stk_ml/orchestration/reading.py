"""Pieces that a pipeline file and a component file have in common: names, locations, bindings, environments."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import yaml

from stk_ml import declarations
from stk_ml.declarations import Declared, Key
from stk_ml.orchestration import digest, expressions, keys
from stk_ml.orchestration.expressions import Reference
from stk_ml.orchestration.pipeline import LITERAL_TYPES, PATH_TYPES, Binding, FromPipeline, FromStep

#: A location or code that is not a path of this machine.
REMOTE = re.compile(r"^(azureml|https?|wasbs?|abfss?|adl|git\+\w+):", re.I)
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read(path: Path, shown: str) -> Declared:
    """A YAML file as azure-ai-ml reads it: by YAML 1.1, where an unquoted yes is true and an unquoted day a date."""
    declared = declarations.read(path, shown=shown)
    return replace(declared, data=yaml.load(path.read_bytes(), _LOADER))  # noqa: S506


def output_type(declared: Declared, row: Any, at: Key, part: str, notes: list[str]) -> str:
    """The type of an output; empty when it has none."""
    data = keys.check(declared, part, row, at, notes)
    if "type" not in data:
        return ""
    if str(data["type"]).lower() in LITERAL_TYPES:
        raise keys.refused(declared, f"an output of type {data['type']}", (*at, "type"))
    return keys.one_of(declared, data["type"], PATH_TYPES, (*at, "type"))


def binding(declared: Declared, value: Any, at: Key) -> Reference | None:
    """The expression that a value is, or None."""
    if not isinstance(value, str):
        return None
    try:
        return expressions.binding(value)
    except ValueError as error:
        raise declared.error(
            str(error), at, hint="known: ${{parent.inputs.X}}, ${{parent.jobs.STEP.outputs.X}}, ${{parent.outputs.X}}"
        ) from None


def source(declared: Declared, reference: Reference, at: Key) -> Binding:
    """Where an input that is bound by an expression comes from."""
    if reference.kind == "parent_input":
        return FromPipeline(reference.name)
    if reference.kind == "step_output":
        return FromStep(reference.step, reference.name)
    raise declared.error(
        f"an input cannot be bound to {reference}",
        at,
        hint=f"did you mean ${{{{parent.inputs.{reference.name}}}}}?",
    )


def location(path: str, base: Path) -> str:
    """An absolute path, or the URI as it is."""
    path = path.removeprefix("file://").removeprefix("file:")
    return path if REMOTE.match(path) else str((base / path).absolute().resolve())


def environment(declared: Declared, value: Any, base: Path, at: Key, notes: list[str]) -> str:
    """One text that changes when what the environment holds changes."""
    if isinstance(value, str) or value is None:
        return value or ""
    data = keys.check(declared, "environment", value, at, notes)
    conda = data.get("conda_file")
    try:
        if isinstance(conda, str):
            data["conda_file"] = (base / conda.removeprefix("file:")).read_text("utf-8")
        if "build" in data:
            build = keys.check(declared, "build", data["build"], (*at, "build"), notes)
            data["build"] = {**build, "path": digest.Digests().files(base / str(build.get("path", ".")))}
    except OSError as error:
        raise declared.error(
            f"the environment cannot be read: {error.strerror}: {error.filename}",
            at,
            hint="paths are relative to the file",
        ) from None
    return json.dumps(data, sort_keys=True)


def named(declared: Declared, rows: Any, at: Key) -> dict[str, Any]:
    """A mapping whose keys are names; None counts as empty."""
    found = mapping(declared, rows, at)
    for name in found:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise declared.error(
                f"{name!r} is not a name", (*at, str(name)), hint="letters, digits and underscores, not a digit first"
            )
    return found


def mapping(declared: Declared, rows: Any, at: Key) -> dict[str, Any]:
    """A mapping; None counts as empty."""
    if rows is None:
        return {}
    if not isinstance(rows, dict):
        raise declared.error(f"{'.'.join(map(str, at))} must be a mapping", at)
    return dict(rows)


def bound(declared: Declared, value: Any, at: Key) -> float | None:
    """A number, or None."""
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise declared.error(f"{value!r} is not a number", at) from None


def scalar(declared: Declared, value: Any, at: Key) -> str | bool | int | float:
    """A text, number or boolean.

    Raises:
        DeclarationError: it is something else, or a date, which azure-ai-ml cannot send.
    """
    if isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, (date, datetime)):
        raise declared.error(f"{value} is read as a date, which Azure ML does not take", at, hint=f'write "{value}"')
    raise declared.error("this must be a text, a number, true or false", at)
