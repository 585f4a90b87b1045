"""What the scoring app answers, for the OpenAPI document: scores, tensors and errors, with their headers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stk_ml.serving.openapi_schemas import JsonSchema

#: What an error's status means here.
ERRORS = {
    400: "The body is not what its content type says",
    401: "No credential, or a wrong or expired one",
    403: "The credential does not allow scoring",
    404: "No such model, version or deployment is served here",
    405: "This route does not take this method",
    408: "The body did not arrive in time",
    413: "The body is too large, or holds too many rows",
    415: "This content type, or its encoding, is not taken",
    422: "The rows break the model's columns; `problems` lists where",
    429: "Too many requests are in work; try again after `Retry-After` seconds",
    503: "Nothing is ready to score",
    504: "Scoring took too long",
}
PROBLEM: JsonSchema = {
    "type": "object",
    "properties": {
        "row": {"type": "integer", "description": "From 0; -1 for all rows."},
        "column": {"type": "string"},
        "reason": {"type": "string"},
    },
    "required": ["row", "column", "reason"],
}
_FIELDS: JsonSchema = {
    "type": {"type": "string", "description": "One word for what went wrong."},
    "hint": {"type": "string", "description": "What mends it; may be empty."},
    "request_id": {"type": "string"},
    "problems": {"type": "array", "items": {"$ref": "#/components/schemas/Problem"}},
    "total": {"type": "integer", "description": "Number of problems in all."},
}
_REQUIRED = ["type", "hint", "request_id"]
ERROR: JsonSchema = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {"message": {"type": "string"}, **_FIELDS},
            "required": ["message", *_REQUIRED],
        }
    },
    "required": ["error"],
}
#: An error of the Open Inference Protocol, whose clients read text.
TENSOR_ERROR: JsonSchema = {
    "type": "object",
    "properties": {"error": {"type": "string"}, **_FIELDS},
    "required": ["error", *_REQUIRED],
}
MODEL: JsonSchema = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "version": {"type": "string"},
        "digest": {"type": "string"},
        "deployment": {"type": "string"},
    },
    "required": ["name", "version", "digest", "deployment"],
}


def scores(problem: str) -> JsonSchema:
    """The answer to rows: one prediction each."""
    binary = problem == "binary"
    number: JsonSchema = {"type": ["number", "null"]} | ({"minimum": 0, "maximum": 1} if binary else {})
    explanation = {
        "type": ["object", "null"],
        "description": "SHAP values: `expected` and the contributions add up to the "
        + ("log-odds of the score before calibration." if binary else "score."),
        "properties": {
            "expected": {"type": "number"},
            "contributions": {"type": "object", "additionalProperties": {"type": "number"}},
        },
        "required": ["expected", "contributions"],
    }
    return {
        "type": "object",
        "properties": {
            "predictions": {
                "type": "array",
                "items": number,
                "description": ("Calibrated probability" if binary else "Value")
                + " per row, in their order; null for a rejected row (`partial=true`).",
            },
            "request_id": {"type": "string"},
            "model": {"$ref": "#/components/schemas/Model"},
            "errors": {"type": "array", "items": {"$ref": "#/components/schemas/Problem"}},
            "explanations": {"type": "array", "items": explanation},
        },
        "required": ["predictions", "request_id", "model"],
    }


def infer_answer(names: Sequence[str]) -> JsonSchema:
    """The answer of the Open Inference Protocol."""
    output = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "enum": list(names)},
            "datatype": {"type": "string"},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "data": {"type": "array", "items": {"type": ["number", "null"]}},
            "parameters": {"type": "object"},
        },
        "required": ["name", "datatype", "shape"],
    }
    return {
        "type": "object",
        "properties": {
            "model_name": {"type": "string"},
            "model_version": {"type": "string"},
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "outputs": {"type": "array", "items": output},
        },
        "required": ["model_name", "outputs"],
    }


def answers(schema: str, auth: bool, *codes: int, shape: str = "Error") -> dict[str, Any]:
    """The answers of a route that scores, by status: the named schema, or an error of one of the codes."""
    good = {
        "description": "Scores",
        "headers": {
            "x-request-id": _header("The id of this request.", pattern="^[A-Za-z0-9._-]{1,64}$"),
            "azureml-model-deployment": _header("The deployment that answered."),
        },
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}},
    }
    wrong = sorted((*codes, *((401, 403) if auth else ())))
    return {"200": good, **{str(code): error(code, shape) for code in wrong}}


def error(code: int, shape: str = "Error") -> dict[str, Any]:
    """The answer of an error, in the named shape."""
    headers = {"x-request-id": _header("The id of this request.")}
    if code in (429, 503):
        headers["retry-after"] = _header("Seconds to wait.")
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{shape}"}}}
    return {"description": ERRORS[code], "headers": headers, "content": content}


def _header(description: str, **schema: Any) -> JsonSchema:
    return {"description": description, "required": True, "schema": {"type": "string", **schema}}
