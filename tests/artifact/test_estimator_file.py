"""skops files: equal bytes for equal estimators, and nothing outside of the allow-list is built."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stk_ml.artifact import estimator_file
from stk_ml.errors import ArtifactError, UntrustedTypeError

FIT = """
import numpy as np
from sklearn.ensemble import RandomForestClassifier
x = np.random.default_rng(0).normal(size=(200, 3))
estimator = RandomForestClassifier(n_estimators=3, random_state=0).fit(x, x[:, 0] > 0)
"""


def fitted() -> Any:
    names: dict[str, Any] = {}
    exec(FIT, names)
    return names["estimator"]


def edit(content: bytes, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The same file with another schema, as an attacker would write it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            if name == "schema.json":
                schema = json.loads(old.read(name))
                change(schema)
                new.writestr(name, json.dumps(schema))
            else:
                new.writestr(name, old.read(name))
    return buffer.getvalue()


def test_what_is_written_is_read_back_and_scores_the_same() -> None:
    estimator = fitted()
    x = np.random.default_rng(1).normal(size=(50, 3))
    np.testing.assert_array_equal(
        estimator_file.loads(estimator_file.dumps(estimator)).predict_proba(x), estimator.predict_proba(x)
    )


def test_the_bytes_are_the_same_in_another_process() -> None:
    script = FIT + (
        "import hashlib; from stk_ml.artifact import estimator_file\n"
        "print(hashlib.sha256(estimator_file.dumps(estimator)).hexdigest())"
    )
    found = {subprocess.check_output([sys.executable, "-c", script]) for _ in range(2)}
    assert len(found) == 1


@pytest.mark.parametrize(
    "plant",
    [
        {
            "__module__": "os",
            "__class__": "system",
            "__loader__": "FunctionNode",
            "content": {"function_path": "os.system"},
        },
        {"__module__": "builtins", "__class__": "eval", "__loader__": "TypeNode"},
        {"__module__": "subprocess", "__class__": "Popen", "__loader__": "ObjectNode", "content": None},
        {"__module__": "builtins", "__class__": "dict", "__loader__": "MethodNode", "content": {}},
        {"__module__": "builtins", "__class__": "dict", "__loader__": "OperatorFuncNode", "content": {}},
        {"__module__": "builtins", "__class__": "dict", "__loader__": "ReduceNode", "content": {}},
        {
            "__module__": "sklearn.preprocessing._function_transformer",
            "__class__": "FunctionTransformer",
            "__loader__": "ObjectNode",
        },
        {"__class__": "eval"},
        {"__loader__": "JsonNode"},
    ],
)
def test_a_planted_foreign_type_is_refused_wherever_it_hides(plant: dict[str, Any]) -> None:
    content = estimator_file.dumps(fitted())
    with pytest.raises(UntrustedTypeError, match="outside the allow-list"):
        estimator_file.loads(edit(content, lambda schema: schema["content"]["content"].update(planted=plant)))
    with pytest.raises(UntrustedTypeError):
        estimator_file.loads(edit(content, lambda schema: schema.update(anywhere=[{"deep": plant}])))


def test_a_type_list_in_the_file_itself_counts_for_nothing() -> None:
    def change(schema: dict[str, Any]) -> None:
        schema["trusted"] = ["os.system"]
        schema["content"]["content"]["planted"] = {"__module__": "os", "__class__": "system", "__loader__": "TypeNode"}

    with pytest.raises(UntrustedTypeError, match=r"os\.system"):
        estimator_file.loads(edit(estimator_file.dumps(fitted()), change))


class Foreign:
    """Of the user's own module: not on the list."""

    def __init__(self) -> None:
        self.state = 1


def test_a_foreign_type_is_refused_already_when_writing() -> None:
    with pytest.raises(UntrustedTypeError, match="Foreign"):
        estimator_file.dumps(Foreign())


def test_what_is_no_skops_file_is_refused() -> None:
    with pytest.raises(ArtifactError, match="not a skops file"):
        estimator_file.loads(b"\x80\x04pickle")
