"""Mistakes in pipeline files are told with file, line and what mends them; what is not supported is refused by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stk_ml.errors import DeclarationError, UnknownNameError, UnsupportedKeyError
from stk_ml.orchestration.parse import load_pipeline
from stk_ml.orchestration.resolve import check, resolve

GOOD = """\
type: pipeline
inputs:
  data:
    type: uri_file
    path: data.csv
  rate: 0.1
  none: ""
outputs:
  best:
jobs:
  first:
    command: cp ${{inputs.data}} ${{outputs.out}}/copy
    environment: azureml:e@latest
    inputs:
      data: ${{parent.inputs.data}}
    outputs:
      out:
  second:
    component: part.yml
    inputs:
      folder: ${{parent.jobs.first.outputs.out}}
      rate: ${{parent.inputs.rate}}
    outputs:
      best: ${{parent.outputs.best}}
"""
PART = """\
type: command
name: part
version: 1
inputs:
  folder: {type: uri_folder}
  rate: {type: number, min: 0, max: 1}
  word: {type: string, optional: true}
  kind: {type: string, enum: [a, b], default: a}
outputs:
  best: {type: uri_folder}
environment: azureml:e@latest
command: cp -r ${{inputs.folder}}/. ${{outputs.best}} $[[-x ${{inputs.word}}]]
"""


@pytest.fixture
def files(tmp_path, job):
    def write(good: str = GOOD, part: str = PART):
        (tmp_path / "data.csv").write_text("1")
        job(part, "part.yml")
        return job(good)

    return write


def changed(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def test_the_good_file_is_good(files):
    pipeline = load_pipeline(files())
    assert pipeline.steps["second"].depends == ("first",)
    assert pipeline.steps["second"].component == "part"
    assert resolve(pipeline)["second"] == {"rate": "0.1", "kind": "a"}
    assert check(pipeline) == []


MISTAKES = [
    # what is changed, line, message, hint
    ([("type: pipeline", "type: pipline")], 1, "may not be 'pipline'", "did you mean 'pipeline'"),
    ([("jobs:", "job:")], 10, "unknown key 'job'", "did you mean 'jobs'"),
    (
        [("    environment: azureml", "    enviroment: azureml")],
        13,
        "unknown key 'enviroment' in jobs.first",
        "environment",
    ),
    ([("parent.inputs.data", "parent.inputs.dat")], 15, "no input 'dat'", "did you mean 'data'"),
    ([("jobs.first.outputs.out", "jobs.first.outputs.oot")], 21, "no output 'oot'", "did you mean 'out'"),
    ([("jobs.first.outputs", "jobs.frist.outputs")], 21, "no step 'frist'", "did you mean 'first'"),
    ([("${{parent.outputs.best}}", "${{parent.outputs.worst}}")], 24, "no output 'worst'", "best"),
    (
        [("folder: ${{parent.jobs.first.outputs.out}}", "folder: ${{parent.outputs.best}}")],
        21,
        "cannot be bound",
        "parent.inputs",
    ),
    ([("      folder: ", "      folders: ")], 21, "has no input 'folders'", "did you mean 'folder'"),
    (
        [("      folder: ${{parent.jobs.first.outputs.out}}\n", "")],
        20,
        "needs the input 'folder'",
        "parent.inputs.folder",
    ),
    ([("rate: ${{parent.inputs.rate}}", "rate: ${{parent.inputs.data}}")], 22, "takes a number", ""),
    ([("rate: ${{parent.inputs.rate}}", "rate: ${{parent.inputs.none}}")], 22, "may be unset", "value"),
    ([("rate: 0.1", "rate: lots")], 22, "rate: 'lots' is not a number", ""),
    ([("rate: ${{parent.inputs.rate}}", "rate: 7")], 22, "rate: '7' is more than 1", ""),
    ([("rate: ${{parent.inputs.rate}}", "rate: 0.5\n      kind: c")], 23, "'c' is not one of a, b", "there are: a, b"),
    ([("folder: ${{parent.jobs.first.outputs.out}}", "folder: ${{parent.inputs.data}}")], 21, "takes a uri_folder", ""),
    ([("      out:\n", "      out: ${{parent.outputs.best}}\n")], 24, "bound twice, by first and second", ""),
    ([("${{inputs.data}}", "${{inputs.date}}")], 12, "${{inputs.date}} is not declared", "did you mean 'data'"),
    ([("${{inputs.data}}", "${{parent.inputs.data}}")], 12, "cannot stand in a command", "inputs.X"),
    ([("command: cp ${{inputs.data}} ${{outputs.out}}/copy", "command: ''")], 11, "has no command", ""),
    ([("component: part.yml", "component: prat.yml")], 19, "no component file 'prat.yml'", "looked for"),
    ([("component: part.yml", "component: azureml:part@latest")], 19, "in a registry or workspace", "save it"),
    ([("    type: uri_file\n", "    type: uri_fil\n")], 4, "may not be 'uri_fil'", "did you mean 'uri_file'"),
    ([("    path: data.csv\n", "")], 3, "has no path", "path"),
    ([("  rate: 0.1", "  rate: {type: number, default: 1}")], 6, "unknown key 'default'", "type"),
    ([("  rate: 0.1", "  rate:")], 6, "has no value", ""),
    ([("  rate: 0.1", "  rate: 2013-07-01")], 6, "is read as a date", 'write "2013-07-01"'),
    ([("  rate: 0.1", "  rate: [1]")], 6, "must be a text", ""),
    ([("  first:", "  first step:")], 11, "is not a name", "letters"),
    (
        [("    environment: azureml:e@latest\n    inputs", "    code: nowhere\n    inputs")],
        13,
        "no code folder",
        "looked for",
    ),
    ([("    environment: azureml:e@latest\n    inputs", "    limits: {timeout: soon}\n    inputs")], 13, "seconds", ""),
]


@pytest.mark.parametrize(("pairs", "line", "message", "hint"), MISTAKES, ids=[m[2] for m in MISTAKES])
def test_a_mistake_is_told_with_its_line(files, pairs, line, message, hint):
    file = files(changed(GOOD, *pairs))
    with pytest.raises(DeclarationError) as caught:
        load_pipeline(file)
    assert message in str(caught.value)
    assert caught.value.file == str(file)
    assert caught.value.line == line, str(caught.value)
    assert hint in caught.value.hint


REFUSED = [
    (GOOD, [("type: pipeline", "type: sweep")], 1, "type: sweep"),
    (GOOD, [("type: pipeline\n", "type: pipeline\nidentity: {type: managed}\n")], 2, "'identity'"),
    (GOOD, [("type: pipeline\n", "type: pipeline\nschedule: x\n")], 2, "'schedule'"),
    *[
        (GOOD, [("  second:\n", f"  second:\n    type: {kind}\n")], 19, f"type: {kind}")
        for kind in ("sweep", "spark", "parallel", "automl", "import", "pipeline", "data_transfer")
    ],
    (GOOD, [("  second:\n", "  second:\n    distribution: {type: mpi}\n")], 19, "'distribution'"),
    (GOOD, [("  second:\n", "  second:\n    identity: {type: aml_token}\n")], 19, "'identity'"),
    (PART, [("type: command", "type: spark")], 1, "type: spark"),
    (PART, [("name: part\n", "name: part\nadditional_includes: [x]\n")], 3, "'additional_includes'"),
    (PART, [("name: part\n", "name: part\nenvironment_variables: {A: b}\n")], 3, "'environment_variables'"),
    (PART, [("best: {type: uri_folder}", "best: {type: number}")], 10, "an output of type number"),
]


@pytest.mark.parametrize(("text", "pairs", "line", "name"), REFUSED, ids=[f"{r[3]}-{i}" for i, r in enumerate(REFUSED)])
def test_what_only_azure_runs_is_refused_by_name(files, text, pairs, line, name):
    bad = changed(text, *pairs)
    file = files(bad) if text is GOOD else files(part=bad)
    with pytest.raises(UnsupportedKeyError) as caught:
        load_pipeline(file)
    assert name in str(caught.value)
    assert caught.value.line == line
    assert caught.value.hint


def test_an_output_of_the_pipeline_without_a_type_takes_that_of_its_step(files):
    part = changed(PART, ("best: {type: uri_folder}", "best: {type: mlflow_model}"))
    assert load_pipeline(files(part=part)).outputs == {"best": "mlflow_model"}
    with pytest.raises(DeclarationError, match="is a mlflow_model, the pipeline output 'best' a uri_file"):
        load_pipeline(files(changed(GOOD, ("  best:\n", "  best: {type: uri_file}\n")), part))


def test_a_circle_names_its_steps(files):
    file = files(
        changed(
            GOOD,
            ("data: ${{parent.inputs.data}}", "data: {type: uri_folder, path: '${{parent.jobs.second.outputs.best}}'}"),
            ("cp ${{inputs.data}}", "cp -r ${{inputs.data}}"),
        )
    )
    with pytest.raises(DeclarationError, match=r"in a circle: (first -> second -> first|second -> first -> second)"):
        load_pipeline(file)


def test_an_optional_input_outside_a_group_must_be_given(files):
    part = changed(PART, ("$[[-x ${{inputs.word}}]]", "-x ${{inputs.word}}"))
    with pytest.raises(DeclarationError, match=r"part.yml:12: .*'word' stands outside \$\[\[ \]\] and is not given"):
        load_pipeline(files(part=part))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rate": "high"}, "'high' is not a number"),
        ({"rate": "2"}, "rate: '2' is more than 1"),
        ({"data": "nowhere.csv"}, "there is no"),
        ({"data": "."}, "is a folder, uri_file means a file"),
        ({"data": "https://example.com/x.csv"}, "is not on this machine"),
        ({"data": "wasbs://c@a.blob.core.windows.net/x"}, "is not on this machine"),
        ({"data": "azureml:flights@latest"}, "is not on this machine"),
        ({"data": "azureml://datastores/blob/paths/x"}, "the datastore 'blob' has no folder"),
    ],
)
def test_a_given_input_that_does_not_fit_is_an_error(files, given, message):
    with pytest.raises(DeclarationError) as caught:
        resolve(load_pipeline(files()), given)
    assert message in str(caught.value)
    assert caught.value.line in (3, 6, 22)


def test_a_datastore_is_a_folder_of_this_machine(files, tmp_path):
    given = {"data": "azureml://datastores/blob/paths/data.csv"}
    pipeline = load_pipeline(files())
    assert resolve(pipeline, given, {"blob": str(tmp_path)})["first"]["data"] == str(tmp_path / "data.csv")
    with pytest.raises(DeclarationError, match="the datastore 'blob' is at az://lake") as caught:
        resolve(pipeline, given, {"blob": "az://lake"})
    assert "--set inputs.data=PATH" in caught.value.hint


def test_an_input_that_there_is_not_is_named(files):
    with pytest.raises(UnknownNameError) as caught:
        resolve(load_pipeline(files()), {"ratte": "1"})
    assert "did you mean 'rate'" in caught.value.hint


def test_a_path_is_relative_to_the_file_that_holds_it(files, tmp_path, job):
    nested = changed(PART, ("folder: {type: uri_folder}", "folder: {type: uri_folder, default: ../things}"))
    nested = changed(nested, ("name: part\n", "name: part\ncode: ./src\n"))
    (tmp_path / "sub" / "src").mkdir(parents=True)
    job(nested, "sub/part.yml")
    pipeline = load_pipeline(
        files(changed(GOOD, ("part.yml", "sub/part.yml"), ("      folder: ${{parent.jobs.first.outputs.out}}\n", "")))
    )
    assert pipeline.steps["second"].code == (tmp_path / "sub" / "src").resolve()
    assert pipeline.steps["second"].inputs["folder"].default == str((tmp_path / "things").resolve())


def test_check_says_what_is_ignored_and_what_is_not_there(files, tmp_path):
    pipeline = load_pipeline(
        files(changed(GOOD, ("inputs:\n  data", "compute: azureml:cpu\ntags: {a: b}\ninputs:\n  data")))
    )
    (tmp_path / "data.csv").unlink()
    ignored, absent = check(pipeline)
    assert ignored.endswith("job.yml:2: compute means nothing on a laptop")
    assert "there is no" in absent
    assert "--set inputs.data=PATH" in absent


def test_what_the_environment_holds_is_part_of_its_description(files, tmp_path):
    text = changed(GOOD, ("environment: azureml:e@latest", "environment: {image: python, conda_file: conda.yml}"))
    (tmp_path / "conda.yml").write_text("dependencies: [python=3.11]")
    first = load_pipeline(files(text)).steps["first"].environment
    assert "python=3.11" in first
    (tmp_path / "conda.yml").write_text("dependencies: [python=3.12]")
    assert load_pipeline(files(text)).steps["first"].environment != first
    (tmp_path / "conda.yml").unlink()
    with pytest.raises(DeclarationError, match=r"job\.yml:13: the environment cannot be read"):
        load_pipeline(files(text))


@pytest.mark.parametrize("text", ["", "just text", "- a\n- b", "type: pipeline", "jobs: [1]", "a: [", "jobs: {a: 1}"])
def test_what_is_no_pipeline_is_an_error_and_not_a_crash(job, text):
    with pytest.raises(DeclarationError):
        load_pipeline(job(text))


def test_reading_a_pipeline_imports_nothing_heavy(files):
    code = (
        "import sys; from stk_ml.orchestration import local, parse, why; parse.load_pipeline(sys.argv[1]);"
        "print([m for m in ('numpy','pandas','pyarrow','duckdb','azure','mlflow','sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(files())], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
