"""Which keys of Azure ML YAML the laptop runner runs, accepts without effect, or refuses.

====================  ==========================================================================================
part                  keys that are run
====================  ==========================================================================================
pipeline job          type: pipeline, name, display_name, inputs, outputs, jobs, settings
settings              continue_on_step_failure, force_rerun
step (``jobs.X``)     type: command, component (a file, or inline), inputs, outputs, environment,
                      environment_variables, limits.timeout; without a component also command and code
component             type: command, name, version, inputs, outputs, command, code, environment, is_deterministic
declared input        type, default, optional, enum, min, max
given input           a scalar, a ``${{parent...}}`` expression, value, or type with path
output                type, an expression ``${{parent.outputs.X}}`` (also as path)
environment           ``azureml:NAME:VERSION``, or image, conda_file, build: described in the cache key, not built
====================  ==========================================================================================

IGNORED below is accepted: it means nothing on a laptop, and ``stk-ml pipeline check`` lists it. REFUSED means
something that the laptop cannot do; it is an error rather than silently left out.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from stk_ml.declarations import Declared, Key
from stk_ml.errors import UnsupportedKeyError, closest

SUPPORTED: dict[str, tuple[str, ...]] = {
    "pipeline": ("type", "name", "display_name", "inputs", "outputs", "jobs", "settings"),
    "settings": ("continue_on_step_failure", "force_rerun"),
    "step": ("type", "component", "inputs", "outputs", "environment", "environment_variables", "limits"),
    "inline step": (
        *("type", "inputs", "outputs", "environment", "environment_variables", "limits", "command", "code"),
    ),
    "limits": ("timeout",),
    "component": (
        *("type", "name", "version", "inputs", "outputs", "command", "code", "environment", "is_deterministic"),
    ),
    "declared input": ("type", "default", "optional", "enum", "min", "max"),
    "given input": ("type", "path", "value"),
    "declared output": ("type",),
    "given output": ("type", "path"),
    "environment": ("name", "version", "image", "conda_file", "build"),
    "build": ("path", "dockerfile_path"),
}
IGNORED: dict[str, tuple[str, ...]] = {
    "pipeline": ("$schema", "compute", "description", "experiment_name", "properties", "services", "tags"),
    "settings": ("default_compute", "default_datastore"),
    "step": (
        *("$schema", "comment", "compute", "description", "display_name", "experiment_name", "name"),
        *("properties", "queue_settings", "resources", "services", "tags"),
    ),
    "component": ("$schema", "description", "display_name", "properties", "resources", "tags"),
    "declared input": ("description", "mode"),
    "given input": ("datastore", "mode"),
    "declared output": ("description", "mode"),
    "given output": ("mode", "name", "version"),
    "environment": ("$schema", "description", "inference_config", "os_type", "properties", "tags"),
}
IGNORED["inline step"] = IGNORED["step"]
REFUSED: dict[str, tuple[str, ...]] = {
    "pipeline": ("component", "identity", "schedule", "trigger", "create_job"),
    "settings": ("on_init", "on_finalize"),
    "step": (
        *("additional_includes", "distribution", "entry", "conf", "error_threshold", "identity", "input_data"),
        *("early_termination", "mini_batch_size", "objective", "sampling_algorithm", "search_space", "task", "trial"),
    ),
    "component": (
        *("additional_includes", "code_configuration", "conf", "distribution", "entry", "environment_variables"),
        *("identity", "input_data", "jobs", "mini_batch_size", "task"),
    ),
    "limits": ("max_concurrent_trials", "max_total_trials", "trial_timeout"),
    "declared input": ("intellectual_property",),
    "declared output": ("early_available", "intellectual_property"),
    "given input": ("path_on_compute",),
    "environment": ("datastore",),
}
REFUSED["inline step"] = REFUSED["step"]
#: Values of ``type`` that Azure ML knows and the runner does not run.
REFUSED_TYPES = (
    *("automl", "data_transfer", "do_while", "finetuning", "if_else", "import", "parallel", "parallel_for"),
    *("pipeline", "schedule", "spark", "sweep"),
)
_WHY = {
    "environment_variables": "Azure ML drops them in a component; set environment_variables on the step",
}
#: Ignored without a word: they are only for people.
_QUIET = {"$schema", "description", "display_name", "comment", "tags", "mode", "name", "version"}


def check(declared: Declared, part: str, data: Any, at: Key, notes: list[str]) -> dict[str, Any]:
    """``data`` as a mapping that holds only keys of ``part`` that are run.

    Args:
        declared: the file.
        part: a row of SUPPORTED.
        data: what stands at ``at``; None counts as empty.
        at: where it stands.
        notes: gets a sentence for each key that is ignored.

    Raises:
        DeclarationError: it is not a mapping, or holds an unknown key.
        UnsupportedKeyError: it holds a key that is refused.
    """
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise declared.error(f"{_dotted(at) or part} must be a mapping", at, hint=f"keys: {', '.join(SUPPORTED[part])}")
    kept: dict[str, Any] = {}
    for key, value in data.items():
        where = (*at, str(key))
        if key in SUPPORTED[part]:
            kept[key] = value
        elif key in REFUSED.get(part, ()):
            raise refused(declared, f"the key {key!r}", where, hint=_WHY.get(key, ""))
        elif key not in IGNORED.get(part, ()):
            known = (*SUPPORTED[part], *IGNORED.get(part, ()))
            raise declared.error(f"unknown key {key!r}{_inside(at)}", where, hint=closest(str(key), known))
        elif key not in _QUIET:
            notes.append(f"{declared.file}:{declared.line(where)}: {_dotted(where)} means nothing on a laptop")
    return kept


def refused(declared: Declared, what: str, at: Key, *, hint: str = "") -> UnsupportedKeyError:
    """The error for something that only Azure ML runs."""
    return UnsupportedKeyError(
        f"{what} is not supported by the laptop runner{_inside(at[:-1])}",
        file=declared.file,
        line=declared.line(at),
        hint=hint or f"Azure ML runs it: az ml job create -f {declared.file}",
    )


def one_of(declared: Declared, value: Any, known: Collection[str], at: Key) -> str:
    """``value`` when it is one of the known words, whatever its case.

    Raises:
        UnsupportedKeyError: it is a type that only Azure ML runs.
        DeclarationError: it is none.
    """
    word = str(value).lower()
    if word in known:
        return word
    if word in REFUSED_TYPES and at[-1:] == ("type",):
        raise refused(declared, f"type: {word}", at)
    raise declared.error(f"{_dotted(at)} may not be {value!r}", at, hint=closest(word, known))


def _dotted(at: Key) -> str:
    return ".".join(map(str, at))


def _inside(at: Key) -> str:
    return f" in {_dotted(at)}" if at else ""
