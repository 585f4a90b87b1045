"""How the steps hang together: their order, and whether what is bound to what fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from stk_ml.errors import DeclarationError, closest
from stk_ml.orchestration import values
from stk_ml.orchestration.pipeline import (
    FILE_TYPES,
    FOLDER_TYPES,
    LITERAL_TYPES,
    FromPipeline,
    FromStep,
    PipelineInput,
    Place,
    Step,
    StepInput,
)


def in_order(steps: Mapping[str, Step]) -> dict[str, Step]:
    """The steps, each after those it depends on, otherwise as declared.

    Raises:
        DeclarationError: a step depends on one that is not there, or on itself.
    """
    for step in steps.values():
        for row in step.inputs.values():
            if isinstance(row.binding, FromStep) and row.binding.step not in steps:
                raise error(row.place, f"there is no step {row.binding.step!r}", hint=closest(row.binding.step, steps))
    sorter = TopologicalSorter({name: step.depends for name, step in steps.items()})
    try:
        sorter.prepare()
    except CycleError as cycle:
        names = cycle.args[1]
        raise error(
            steps[names[0]].place,
            f"the steps depend on each other in a circle: {' -> '.join(reversed(names))}",
            hint="one of these bindings must go",
        ) from None
    ordered: dict[str, Step] = {}
    declared = list(steps)
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=declared.index)
        ordered |= {name: steps[name] for name in ready}
        sorter.done(*ready)
    return ordered


def check_bindings(
    inputs: Mapping[str, PipelineInput], outputs: Mapping[str, str], steps: Mapping[str, Step]
) -> dict[str, Step]:
    """The steps with the type of every input settled.

    Raises:
        DeclarationError: an unknown pipeline input or step output, types that do not fit, or an output bound twice.
    """
    checked: dict[str, Step] = {}
    for name, step in steps.items():
        rows = {row.name: _settled(row, inputs, checked) for row in step.inputs.values()}
        checked[name] = replace(step, inputs=rows)
    taken: dict[str, str] = {}
    for step in checked.values():
        for out in step.outputs.values():
            if not out.to:
                continue
            if out.to in taken:
                raise error(
                    out.place, f"the pipeline output {out.to!r} is bound twice, by {taken[out.to]} and {step.name}"
                )
            taken[out.to] = step.name
            if outputs[out.to] and not _fits(out.type, outputs[out.to]):
                raise error(
                    out.place,
                    f"{step.name}.outputs.{out.name} is a {out.type}, "
                    f"the pipeline output {out.to!r} a {outputs[out.to]}",
                )
    return checked


def _settled(row: StepInput, inputs: Mapping[str, PipelineInput], steps: Mapping[str, Step]) -> StepInput:
    if isinstance(row.binding, FromPipeline):
        source = inputs.get(row.binding.name)
        if source is None:
            raise error(
                row.place, f"the pipeline has no input {row.binding.name!r}", hint=closest(row.binding.name, inputs)
            )
        if source.optional and not row.optional and row.default is None and row.type:
            raise error(
                row.place,
                f"{row.name} is required, the pipeline input {source.name!r} may be unset",
                hint=f"give {source.name} a value, or make {row.name} optional",
            )
        if source.type in LITERAL_TYPES and row.type in LITERAL_TYPES and not source.optional:
            values.checked(source.value, row, row.place)
        kind, what = source.type, f"the pipeline input {source.name!r}"
    elif isinstance(row.binding, FromStep):
        outs = steps[row.binding.step].outputs
        if row.binding.name not in outs:
            raise error(
                row.place,
                f"step {row.binding.step!r} has no output {row.binding.name!r}",
                hint=closest(row.binding.name, outs),
            )
        kind, what = outs[row.binding.name].type, f"{row.binding.step}.outputs.{row.binding.name}"
    else:
        return row
    if row.type and not _fits(kind, row.type):
        raise error(row.place, f"{row.name} takes a {row.type}, {what} is a {kind}")
    return replace(row, type=row.type or kind)


def _fits(given: str, wanted: str) -> bool:
    """Whether a value of one type can be read as another: folders as folders, files as files, text as text."""
    if given == wanted:
        return True
    if given in LITERAL_TYPES or wanted in LITERAL_TYPES:
        return given in LITERAL_TYPES and wanted in LITERAL_TYPES
    if "custom_model" in (given, wanted):
        return True
    return (given in FILE_TYPES) == (wanted in FILE_TYPES) and (given in FOLDER_TYPES) == (wanted in FOLDER_TYPES)


def error(place: Place, message: str, *, hint: str = "") -> DeclarationError:
    """A mistake at a place."""
    return DeclarationError(message, file=place.file, line=place.line, hint=hint)
