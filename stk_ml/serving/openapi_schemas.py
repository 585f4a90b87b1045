"""JSON Schemas of what a model takes and what the scoring app answers, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from stk_ml.artifact.schema import FeatureField, FeatureSchema
    from stk_ml.model_policies import ServingSpec

JsonSchema: TypeAlias = dict[str, Any]
#: Largest number that JSON can bring into a float64.
LARGEST = 1.7976931348623157e308
#: Categories that a description lists.
_LISTED = 10
_WHAT = {
    "unknown_column": "columns that the model does not take",
    "missing_value": "missing values",
    "wrong_type": "values of a wrong type",
    "out_of_range": "numbers outside the declared range",
    "unseen_category": "categories that training has not seen",
}


def cell(field: FeatureField, policy: ServingSpec) -> JsonSchema:
    """What one value of a column may be; true in JSON Schema's own terms for each value that is scored.

    Example:
        >>> from stk_ml.artifact.schema import FeatureField
        >>> from stk_ml.model_policies import ServingSpec
        >>> cell(FeatureField("zone", "category", ("air", "sea")), ServingSpec())["type"]
        ['string', 'integer', 'null']
    """
    if policy.wrong_type == "count":
        return {"description": f"{_described(field)} A value of another type counts as missing."}
    null = ["null"] if field.nullable or policy.missing_value == "count" else []
    schema: JsonSchema = {"description": _described(field)}
    if field.type == "boolean":
        return {**schema, "enum": [True, False, 0, 1, *([None] if null else [])]}
    if field.type == "category":
        if policy.unseen_category == "reject":
            return {**schema, "enum": [*field.categories, *([None] if null else [])]}
        return {**schema, "type": ["string", "integer", *null]}
    low, high = (field.minimum, field.maximum) if policy.out_of_range == "reject" else (None, None)
    bounds = {"minimum": -LARGEST if low is None else low, "maximum": LARGEST if high is None else high}
    return {**schema, "type": ["number", *null], **bounds}


def record(schema: FeatureSchema, policy: ServingSpec) -> JsonSchema:
    """One row as an object."""
    return {
        "type": "object",
        "description": _policy(policy),
        "properties": {field.name: cell(field, policy) for field in schema.fields},
        **_closed(schema, policy),
    }


def columns(schema: FeatureSchema, policy: ServingSpec) -> JsonSchema:
    """Rows as one array per column."""
    return {
        "type": "object",
        "description": "One array per column, all of the same length.",
        "properties": {
            field.name: {"type": "array", "minItems": 1, "items": cell(field, policy)} for field in schema.fields
        },
        **_closed(schema, policy),
    }


def split(schema: FeatureSchema, policy: ServingSpec) -> JsonSchema:
    """Rows as arrays in the order of ``columns``, as pandas writes them with ``orient="split"``."""
    names = schema.names
    return {
        "type": "object",
        "description": "Rows as arrays in the order of `columns`, which may be any.",
        "properties": {
            "columns": {"type": "array", "const": names},
            "index": {"type": "array", "items": {"type": "integer"}, "description": "Not used."},
            "data": {"type": "array", "minItems": 1, "items": row(schema, policy)},
        },
        "required": ["columns", "data"],
        "additionalProperties": False,
    }


def row(schema: FeatureSchema, policy: ServingSpec) -> JsonSchema:
    """One row as an array, in the order of the model's columns."""
    cells = [cell(field, policy) for field in schema.fields]
    width = len(cells)
    return {"type": "array", "prefixItems": cells, "items": False, "minItems": width, "maxItems": width}


def tensor(field: FeatureField, policy: ServingSpec) -> JsonSchema:
    """One column as a tensor of the Open Inference Protocol."""
    datatypes = {"category": ["BYTES"], "boolean": ["BOOL"]}.get(field.type, ["FP64", "FP32", "INT64", "INT32"])
    return {
        "type": "object",
        "properties": {
            "name": {"type": "string", "const": field.name},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}, "minItems": 1, "maxItems": 2},
            "datatype": {"type": "string", "enum": datatypes},
            "data": {"type": "array", "minItems": 1, "items": cell(field, policy)},
        },
        "required": ["name", "shape", "datatype", "data"],
        "additionalProperties": False,
    }


def _closed(schema: FeatureSchema, policy: ServingSpec) -> JsonSchema:
    found: JsonSchema = {"additionalProperties": policy.unknown_column == "count"}
    if policy.missing_value == "reject":
        found["required"] = list(schema.names)
    return found


def _described(field: FeatureField) -> str:
    if field.type == "category":
        more = ", ..." if len(field.categories) > _LISTED else ""
        return f"One of {len(field.categories)}: {', '.join(field.categories[:_LISTED])}{more}."
    if field.type == "boolean":
        return "True or false, or 1 or 0."
    if field.minimum is None and field.maximum is None:
        return f"A {'whole ' if field.type == 'integer' else ''}number."
    low = "" if field.minimum is None else f" from {field.minimum:g}"
    high = "" if field.maximum is None else f" up to {field.maximum:g}"
    return f"A {'whole ' if field.type == 'integer' else ''}number{low}{high}."


def _policy(policy: ServingSpec) -> str:
    rejected = [text for name, text in _WHAT.items() if getattr(policy, name) == "reject"]
    counted = [text for name, text in _WHAT.items() if getattr(policy, name) == "count"]
    parts = []
    if rejected:
        parts.append(f"Rejected: {', '.join(rejected)}.")
    if counted:
        parts.append(f"Counted and scored: {', '.join(counted)}.")
    return " ".join(parts)


# What is answered ---------------------------------------------------------------------------------------------------

PROBLEM: JsonSchema = {
    "type": "object",
    "properties": {
        "row": {"type": "integer", "description": "From 0; -1 for all rows."},
        "column": {"type": "string"},
        "reason": {"type": "string"},
    },
    "required": ["row", "column", "reason"],
}
ERROR: JsonSchema = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "type": {"type": "string", "description": "One word for what went wrong."},
                "message": {"type": "string"},
                "hint": {"type": "string", "description": "What mends it; may be empty."},
                "request_id": {"type": "string"},
                "problems": {"type": "array", "items": {"$ref": "#/components/schemas/Problem"}},
                "total": {"type": "integer", "description": "Number of problems in all."},
            },
            "required": ["type", "message", "hint", "request_id"],
        }
    },
    "required": ["error"],
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


def shaped(records: Sequence[Mapping[str, Any]], schema: FeatureSchema) -> dict[str, Any]:
    """The same rows in each shape of JSON that is taken, by the name of the shape."""
    rows = [dict(record) for record in records]
    by_column = {name: [record[name] for record in rows] for name in schema.names}
    matrix = [[record[name] for name in schema.names] for record in rows]
    return {
        "record": rows[0],
        "records": rows,
        "data": {"data": rows, "ids": [f"row-{place}" for place in range(len(rows))]},
        "columns": {"data": by_column},
        "dataframe_split": {"dataframe_split": {"columns": schema.names, "data": matrix}},
        "dataframe_records": {"dataframe_records": rows},
        "instances": {"instances": rows},
        "inputs": {"inputs": by_column},
    }


def tensors(records: Sequence[Mapping[str, Any]], schema: FeatureSchema) -> dict[str, Any]:
    """The same rows as a request of the Open Inference Protocol; a number that is missing is null."""
    datatypes = {"category": "BYTES", "boolean": "BOOL"}
    return {
        "inputs": [
            {
                "name": field.name,
                "shape": [len(records)],
                "datatype": datatypes.get(field.type, "FP64"),
                "data": [record[field.name] for record in records],
            }
            for field in schema.fields
        ]
    }
