"""What runs a pipeline, and what it tells while and after it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from stk_ml.orchestration.pipeline import Pipeline

Status = Literal["ran", "cached", "failed", "skipped"]


@dataclass(frozen=True)
class KeyParts:
    """What decides whether a step must run again; :func:`stk_ml.orchestration.cache.key_of` makes the key of it.

    Attributes:
        command: the template.
        parameters: text of each literal that is set.
        inputs: digest of each file and folder.
        sources: where each of those came from, ``STEP.OUTPUT`` or a path; not part of the key.
        code: digest of each file of the code folder.
        environment: its description.
        environment_variables: as declared.
        outputs: type by name.
        program: digest of each source file of stk_ml when the command names ``stk-ml``.
        lock: digest of what is installed, given by the caller.
        is_deterministic: false keeps the step from being cached.
    """

    command: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    environment: str = ""
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)
    program: Mapping[str, str] = field(default_factory=dict)
    lock: str = ""
    is_deterministic: bool = True


@dataclass(frozen=True)
class StepEvent:
    """Something happened to a step.

    Attributes:
        step: its name.
        kind: ``started``, or the status it ended with.
        seconds: how long it took; 0 when it starts.
        log: its log, when there is one.
        done, total: steps that have ended, and steps of the pipeline.
    """

    step: str
    kind: Literal["started", "ran", "cached", "failed", "skipped"]
    seconds: float
    log: Path | None
    done: int
    total: int


@dataclass(frozen=True)
class StepResult:
    """How a step ended.

    Attributes:
        name: of the step.
        status: ran, cached, failed or skipped.
        seconds: from its start; for a cached step the time to find that out.
        outputs: path by name, in the cache; do not change what is there.
        log: its output and errors; of a cached step, those of the run that made it.
        parts: what its cache key is made of; None when it was skipped.
        key: the cache key; empty when it was skipped.
    """

    name: str
    status: Status
    seconds: float = 0.0
    outputs: Mapping[str, Path] = field(default_factory=dict)
    log: Path | None = None
    parts: KeyParts | None = None
    key: str = ""


@dataclass(frozen=True)
class PipelineRun:
    """A pipeline that ran to its end.

    Attributes:
        id: sorts by the time it started.
        steps: by name, in order.
        outputs: path of each pipeline output, in the output folder.
    """

    id: str
    steps: Mapping[str, StepResult]
    outputs: Mapping[str, Path]


class PipelineRunner(Protocol):
    """Runs pipelines: on this machine, or on Azure ML."""

    def run(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, str] = {},
        *,
        output_dir: Path | None = None,
        force: Sequence[str] = (),
    ) -> PipelineRun:
        """Runs a pipeline to its end.

        Args:
            pipeline: what to run.
            inputs: values of its inputs, as text; the rest keeps what the file says.
            output_dir: where its outputs go; default a folder of the run.
            force: names of steps to run although they are cached.

        Raises:
            DeclarationError: an input does not fit, or its data is not there.
            UnknownNameError: an input or a forced step that the pipeline does not have.
            StepFailedError: a step failed; steps that ran beside it have ended.
        """
        ...
