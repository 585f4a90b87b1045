"""The parsed form of an Azure ML pipeline job: what the runner, the cache and ``stk-ml pipeline check`` work on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

#: Types whose value is one file, a folder, or either; and types whose value is text.
FILE_TYPES = ("uri_file",)
FOLDER_TYPES = ("uri_folder", "mlflow_model", "mltable", "triton_model")
PATH_TYPES = (*FILE_TYPES, *FOLDER_TYPES, "custom_model")
LITERAL_TYPES = ("string", "number", "integer", "boolean")
#: The file that makes a folder one of that type.
MARKERS = {"mlflow_model": "MLmodel", "mltable": "MLTable"}


@dataclass(frozen=True)
class Place:
    """A line of a declared file, for errors."""

    file: str
    line: int | None


@dataclass(frozen=True)
class Literal:
    """A value that is written down: text as it will stand in the command, or a location of a path type."""

    text: str
    type: str


@dataclass(frozen=True)
class FromPipeline:
    """``${{parent.inputs.NAME}}``."""

    name: str


@dataclass(frozen=True)
class FromStep:
    """``${{parent.jobs.STEP.outputs.NAME}}``."""

    step: str
    name: str


Binding = Literal | FromPipeline | FromStep


@dataclass(frozen=True)
class PipelineInput:
    """An input of the pipeline.

    Attributes:
        name: as declared.
        type: one of PATH_TYPES or LITERAL_TYPES.
        value: text of a literal; an absolute path or a URI of a path type; empty when it must be given.
        optional: whether it may stay unset. An empty string in a job file means that: Azure ML drops such inputs.
        place: where it is declared.
    """

    name: str
    type: str
    value: str
    optional: bool
    place: Place


@dataclass(frozen=True)
class StepInput:
    """An input of a step: what the component declares and what the pipeline binds to it.

    Attributes:
        name, type, optional, default: as declared; default None when there is none.
        enum, minimum, maximum: bounds of a literal; empty and None for none.
        binding: what it is given; None when it is not bound.
        place: where it is bound, else where it is declared.
    """

    name: str
    type: str
    optional: bool = False
    default: str | None = None
    enum: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    binding: Binding | None = None
    place: Place = Place("", None)


@dataclass(frozen=True)
class StepOutput:
    """An output of a step; ``to`` names the pipeline output that it is bound to, if any."""

    name: str
    type: str
    to: str = ""
    place: Place = Place("", None)


@dataclass(frozen=True)
class Step:
    """One command of the pipeline.

    Attributes:
        name: key under ``jobs``.
        component, version: of its component; the step's own name and empty for an inline command.
        command: template text, with ``${{ }}`` expressions and ``$[[ ]]`` groups.
        code: absolute path of its code folder (or one file), or None.
        environment: description of what Azure would run it in, with the text of the files it names. It takes part in
            the cache key; on a laptop the step runs in the environment of the runner.
        environment_variables: name to text, which may hold expressions.
        inputs, outputs: by name, in declared order.
        is_deterministic: false keeps its outputs out of the cache.
        timeout: seconds it may run; None for no limit.
        depends: names of the steps whose outputs it reads.
        place: where it is declared.
    """

    name: str
    component: str
    version: str
    command: str
    code: Path | None
    environment: str
    environment_variables: Mapping[str, str]
    inputs: Mapping[str, StepInput]
    outputs: Mapping[str, StepOutput]
    is_deterministic: bool = True
    timeout: int | None = None
    depends: tuple[str, ...] = ()
    place: Place = Place("", None)


@dataclass(frozen=True)
class Pipeline:
    """A pipeline job.

    Attributes:
        name: ``name`` in the file, else the file's stem.
        display_name, file: as declared; the absolute path of the file.
        inputs: by name.
        outputs: type by name.
        steps: by name, each after the steps it depends on.
        continue_on_step_failure: whether steps that do not depend on a failed one still start.
        force_rerun: whether every step runs although it is cached.
        notes: what was accepted and means nothing on a laptop, one sentence each.
    """

    name: str
    display_name: str
    file: Path
    inputs: Mapping[str, PipelineInput]
    outputs: Mapping[str, str]
    steps: Mapping[str, Step]
    continue_on_step_failure: bool = False
    force_rerun: bool = False
    notes: tuple[str, ...] = field(default=())

    def source(self, output: str) -> FromStep | None:
        """The step output that a pipeline output is bound to, or None when nothing is."""
        for step in self.steps.values():
            for out in step.outputs.values():
                if out.to == output:
                    return FromStep(step.name, out.name)
        return None
