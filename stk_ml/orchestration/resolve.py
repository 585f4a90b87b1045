"""Gives every input of a pipeline its value: text, or a path on this machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from stk_ml.errors import DeclarationError, UnknownNameError
from stk_ml.orchestration import values
from stk_ml.orchestration.graph import error
from stk_ml.orchestration.pipeline import (
    FILE_TYPES,
    FOLDER_TYPES,
    LITERAL_TYPES,
    MARKERS,
    PATH_TYPES,
    FromPipeline,
    FromStep,
    Literal,
    Pipeline,
    PipelineInput,
    Place,
    Step,
    StepInput,
)

_DATASTORE = re.compile(r"azureml://(?:subscriptions/.*/)?datastores/(?P<name>[^/]+)/paths/?(?P<path>.*)")
_URI = re.compile(r"^(azureml|https?|wasbs?|abfss?|adl):", re.I)


def resolve(
    pipeline: Pipeline, given: Mapping[str, str] = {}, datastores: Mapping[str, str] = {}
) -> dict[str, dict[str, str]]:
    """What each step is given, before it runs: by step and input, without the outputs of other steps.

    Args:
        pipeline: as loaded.
        given: values for its inputs, as text; a relative path is relative to the current folder. An empty text of a
            literal input means unset.
        datastores: folder by name, for ``azureml://datastores/NAME/paths/...``.

    Raises:
        UnknownNameError: a given input that the pipeline does not have.
        DeclarationError: a value does not fit its type, is missing, or its file is not there.
    """
    for name in given:
        if name not in pipeline.inputs:
            raise UnknownNameError("pipeline input", name, pipeline.inputs)
    top = {name: _pipeline_value(row, given.get(name), datastores) for name, row in pipeline.inputs.items()}
    return {name: _step_values(step, pipeline, top, datastores) for name, step in pipeline.steps.items()}


def check(pipeline: Pipeline, given: Mapping[str, str] = {}, datastores: Mapping[str, str] = {}) -> list[str]:
    """Everything worth knowing before a run: what is ignored on a laptop, and what data is not there yet.

    Raises:
        DeclarationError: a value does not fit its type.
        UnknownNameError: a given input that the pipeline does not have.
    """
    notes = list(pipeline.notes)
    kept: dict[str, str] = {**given}
    for name, row in pipeline.inputs.items():
        try:
            _pipeline_value(row, given.get(name), datastores)
        except DeclarationError as problem:
            if row.type not in PATH_TYPES:
                raise
            notes.append(f"{problem.message}; {problem.hint}")
    if len(notes) == len(pipeline.notes):
        try:
            resolve(pipeline, kept, datastores)
        except DeclarationError as problem:
            notes.append(f"{problem.message}; {problem.hint}")
    return notes


def local(text: str, kind: str, place: Place, name: str, datastores: Mapping[str, str]) -> Path:
    """The path on this machine that a location means.

    Raises:
        DeclarationError: it is elsewhere, or there is nothing of that kind.
    """
    text = text.removeprefix("file://").removeprefix("file:")
    found = _DATASTORE.fullmatch(text)
    if found:
        folder = datastores.get(found["name"], "")
        if not folder or "://" in folder:
            what = f"is at {folder}" if folder else "has no folder on this machine"
            known = f"; known datastores: {', '.join(sorted(datastores))}" if datastores and not folder else ""
            raise error(
                place, f"{name}: the datastore {found['name']!r} {what}", hint=f"--set inputs.{name}=PATH{known}"
            )
        text = str(Path(folder, found["path"]))
    elif _URI.match(text):
        raise error(place, f"{name}: {text} is not on this machine", hint=f"download it, and --set inputs.{name}=PATH")
    path = Path(text).absolute()
    if not path.exists():
        raise error(place, f"{name}: there is no {path}", hint=f"--set inputs.{name}=PATH names another")
    if kind in FILE_TYPES and not path.is_file():
        raise error(place, f"{name}: {path} is a folder, {kind} means a file")
    if kind in FOLDER_TYPES and not path.is_dir():
        raise error(place, f"{name}: {path} is a file, {kind} means a folder")
    if kind in MARKERS and not (path / MARKERS[kind]).is_file():
        raise error(place, f"{name}: {path} is no {kind}: it holds no file {MARKERS[kind]}")
    return path


def _pipeline_value(row: PipelineInput, given: str | None, datastores: Mapping[str, str]) -> str | None:
    if row.type in PATH_TYPES:
        return str(local(given or row.value, row.type, row.place, row.name, datastores))
    value = row.value if given is None else given
    if value == "":
        return None
    return values.checked(value, StepInput(row.name, row.type), row.place)


def _step_values(
    step: Step, pipeline: Pipeline, top: Mapping[str, str | None], datastores: Mapping[str, str]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for row in step.inputs.values():
        value = _value(row, pipeline, top)
        if value is None:
            if not row.optional and not isinstance(row.binding, FromStep):
                raise error(row.place, f"step {step.name!r} needs the input {row.name!r}, and it is unset")
        elif row.type in LITERAL_TYPES:
            found[row.name] = values.checked(value, row, row.place)
        else:
            found[row.name] = str(local(value, row.type, row.place, row.name, datastores))
    return found


def _value(row: StepInput, pipeline: Pipeline, top: Mapping[str, str | None]) -> str | None:
    if isinstance(row.binding, FromStep):
        return None
    if isinstance(row.binding, Literal):
        return row.binding.text
    if isinstance(row.binding, FromPipeline) and top[row.binding.name] is not None:
        return top[row.binding.name]
    return row.default
