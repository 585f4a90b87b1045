"""Reads an Azure ML pipeline job file, with the components it names, without azure-ai-ml.

What is supported is the table of :mod:`stk_ml.orchestration.keys`. Everything is checked here that the files alone
can tell: names, types, bindings, cycles. Whether the data is there is checked when a run starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from stk_ml.declarations import Declared
from stk_ml.orchestration import keys, reading, values
from stk_ml.orchestration.graph import check_bindings, in_order
from stk_ml.orchestration.pipeline import LITERAL_TYPES, PATH_TYPES, Pipeline, PipelineInput, Place
from stk_ml.orchestration.resolve import check
from stk_ml.orchestration.step_reader import StepReader

__all__ = ["check", "load_pipeline"]


def load_pipeline(file: str | Path) -> Pipeline:
    r"""Reads and checks a pipeline job file.

    Args:
        file: a YAML file of ``type: pipeline``. Paths in it are relative to the file that holds them.

    Raises:
        DeclarationError: a mistake, with file, line and a hint.
        UnsupportedKeyError: it uses something that only Azure ML runs.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     job = Path(folder, "hello.yml")
        ...     _ = job.write_text(
        ...         "type: pipeline\njobs:\n  hi:\n    command: echo hello > ${{outputs.o}}/hi.txt\n"
        ...         "    environment: azureml:any@latest\n    outputs: {o: }\n"
        ...     )
        ...     pipeline = load_pipeline(job)
        >>> pipeline.name, list(pipeline.steps), pipeline.steps["hi"].outputs["o"].type
        ('hello', ['hi'], 'uri_folder')
    """
    path = Path(file).absolute()
    declared = reading.read(path, str(file))
    notes: list[str] = []
    if isinstance(declared.data, dict) and "type" in declared.data:
        keys.one_of(declared, declared.data["type"], ("pipeline",), ("type",))
    data = keys.check(declared, "pipeline", declared.data, (), notes)
    settings = keys.check(declared, "settings", data.get("settings"), ("settings",), notes)
    inputs = {
        name: _pipeline_input(declared, name, value, path.parent, notes)
        for name, value in reading.named(declared, data.get("inputs"), ("inputs",)).items()
    }
    outputs = {
        name: reading.output_type(declared, value, ("outputs", name), "given output", notes)
        for name, value in reading.named(declared, data.get("outputs"), ("outputs",)).items()
    }
    jobs = reading.named(declared, data.get("jobs"), ("jobs",))
    if not jobs:
        raise declared.error("the pipeline has no jobs", ("jobs",), hint="add at least one step under jobs:")
    steps = {name: StepReader(declared, path, name, job, notes).step(outputs) for name, job in jobs.items()}
    steps = check_bindings(inputs, outputs, in_order(steps))
    bound = {out.to: out.type for step in steps.values() for out in step.outputs.values()}
    notes += [f"{declared.file}: no step writes the pipeline output {name!r}" for name in outputs if name not in bound]
    return Pipeline(
        name=str(data.get("name") or path.stem),
        display_name=str(data.get("display_name") or data.get("name") or path.stem),
        file=path,
        inputs=inputs,
        outputs={name: kind or bound.get(name, "uri_folder") for name, kind in outputs.items()},
        steps=steps,
        continue_on_step_failure=settings.get("continue_on_step_failure") is True,
        force_rerun=settings.get("force_rerun") is True,
        notes=tuple(notes),
    )


def _pipeline_input(declared: Declared, name: str, value: Any, base: Path, notes: list[str]) -> PipelineInput:
    at = ("inputs", name)
    place = Place(declared.file, declared.line(at))
    if not isinstance(value, dict):
        if value is None:
            raise declared.error(
                f"the input {name!r} has no value", at, hint='give a value, "" for none, or type and path'
            )
        value = reading.scalar(declared, value, at)
        return PipelineInput(name, values.kind(value), values.text(value), value == "", place)
    data = keys.check(declared, "given input", value, at, notes)
    if "type" not in data and "value" in data:
        return _pipeline_input(declared, name, data["value"], base, notes)
    kind = keys.one_of(declared, data.get("type", "uri_folder"), (*PATH_TYPES, *LITERAL_TYPES), (*at, "type"))
    if kind in LITERAL_TYPES:
        raise declared.error(
            f"type: {kind} cannot stand in a pipeline job (Azure ML refuses it)", (*at, "type"), hint=f"{name}: VALUE"
        )
    path = data.get("path")
    if not isinstance(path, str):
        raise declared.error(f"the input {name!r} has no path", at, hint="add path: FOLDER_OR_FILE")
    return PipelineInput(name, kind, reading.location(path, base), False, place)
