"""azure-ai-ml reads the same files and sees the same pipelines as the laptop runner."""

from __future__ import annotations

import importlib.util
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from stk_ml.orchestration.parse import load_pipeline
from stk_ml.orchestration.pipeline import FromPipeline, FromStep, Literal

ROOT = Path(__file__).parents[2]
JOBS = sorted(
    [
        *(
            file
            for file in (ROOT / "pipelines").glob("*.yml")
            if re.search(r"^type: pipeline$", file.read_text(), re.M)
        ),
        *(Path(__file__).parent / "pipelines").glob("*/pipeline.yml"),
    ]
)
COMPONENTS = sorted((ROOT / "pipelines" / "components").glob("*.yml"))

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("azure") is None or importlib.util.find_spec("azure.ai.ml") is None,
        reason="azure-ai-ml is not installed: pip install 'stk-ml[azure]'",
    ),
    pytest.mark.filterwarnings("ignore"),
]


@pytest.fixture(autouse=True, scope="module")
def _quiet():
    logging.disable(logging.CRITICAL)  # "experimental class" and unknown-key notices
    yield
    logging.disable(logging.NOTSET)


def shown(value: Any) -> Any:
    """A binding as azure-ai-ml holds it, in our words: an expression, a text or a path."""
    value = getattr(value, "path", value)
    return None if value is None else str(value)


def ours(row: Any) -> Any:
    if isinstance(row.binding, FromPipeline):
        return f"${{{{parent.inputs.{row.binding.name}}}}}"
    if isinstance(row.binding, FromStep):
        return f"${{{{parent.jobs.{row.binding.step}.outputs.{row.binding.name}}}}}"
    return row.binding.text if isinstance(row.binding, Literal) else None


@pytest.mark.parametrize("file", JOBS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_azure_sees_the_same_steps_commands_and_bindings(file):
    from azure.ai.ml import load_job

    theirs, pipeline = load_job(file), load_pipeline(file)
    checked = theirs._validate()
    assert checked.passed, checked.error_messages
    assert set(theirs.jobs) == set(pipeline.steps)
    assert set(theirs.inputs) == set(pipeline.inputs)
    assert set(theirs.outputs) == set(pipeline.outputs)
    for name, out in theirs.outputs.items():
        assert out.type in (None, pipeline.outputs[name])
    for name, row in pipeline.inputs.items():
        given = theirs.inputs[name]._data
        assert shown(given) == row.value or Path(row.value).as_posix().endswith(Path(shown(given)).as_posix())
    for name, step in pipeline.steps.items():
        node = theirs.jobs[name]
        assert node.component.command == step.command
        assert {key: shown(value._data) for key, value in node.inputs.items() if value._data is not None} == {
            key: ours(row) for key, row in step.inputs.items() if row.binding is not None
        }
        bound = {key: shown(out._data) for key, out in node.outputs.items()}
        for key, out in step.outputs.items():
            assert (bound.get(key) or "") == (f"${{{{parent.outputs.{out.to}}}}}" if out.to else "")
        declared = node.component.inputs
        assert set(declared) == set(step.inputs)
        for key, row in step.inputs.items():
            if step.component != step.name:
                assert declared[key].type == row.type
                assert bool(declared[key].optional) == row.optional
                assert shown(declared[key].default) == row.default
        assert {key: out.type for key, out in node.component.outputs.items()} == {
            key: out.type for key, out in step.outputs.items()
        }
        assert (node.component.is_deterministic is not False) == step.is_deterministic
        assert dict(node.environment_variables or {}) == dict(step.environment_variables)


@pytest.mark.parametrize("file", COMPONENTS, ids=lambda file: file.stem)
def test_azure_accepts_every_component(file):
    from azure.ai.ml import load_component

    component = load_component(file)
    checked = component._validate()
    assert checked.passed, checked.error_messages
    assert "python=3.11" in component.environment.conda_file["dependencies"]


def test_azure_leaves_out_an_empty_input_so_that_its_group_is_dropped():
    from azure.ai.ml import load_job

    sent = load_job(ROOT / "pipelines" / "train.yml")._to_rest_object().properties.inputs
    assert set(sent) == {"model", "views"}


def test_an_input_can_be_set_on_submission():
    from azure.ai.ml import load_job

    job = load_job(ROOT / "pipelines" / "train.yml", params_override=[{"inputs.now": "2013-07-01"}])
    assert job._to_rest_object().properties.inputs["now"].value == "2013-07-01"


def test_scalars_are_read_as_azure_reads_them(job):
    from azure.ai.ml import load_job

    file = job(
        "type: pipeline\nsettings: {default_compute: azureml:c}\n"
        "inputs: {a: yes, b: 'yes', c: 1e3, d: 010, e: 1_000, f: 0.10, g: .5, h: off, i: 1.0e+3, j: TRUE}\n"
        "jobs: {s: {type: command, command: echo 1, environment: 'azureml:e@latest'}}\n"
    )
    sent = load_job(file)._to_rest_object().properties.inputs
    ours = load_pipeline(file).inputs
    assert {name: value.value for name, value in sent.items()} == {name: row.value for name, row in ours.items()}
