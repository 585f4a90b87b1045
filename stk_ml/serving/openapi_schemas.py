"""JSON Schemas of what a model takes, and the same rows in every shape, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from stk_ml.serving.decoding.codes import codes
from stk_ml.serving.decoding.rows import MOST_ID
from stk_ml.serving.decoding.tensors import DATATYPES

if TYPE_CHECKING:
    from stk_ml.artifact.schema import FeatureField, FeatureSchema
    from stk_ml.model_policies import ServingSpec

JsonSchema: TypeAlias = dict[str, Any]
#: What some clients send where nothing is asked for.
_NOTHING: JsonSchema = {"enum": [None, {}, [], "", 0, False]}
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
            return {**schema, "enum": [value for value in codes(field) if value is not None or null]}
        return {**schema, "type": ["string", "integer", *null]}
    bounds = {"minimum": field.minimum, "maximum": field.maximum} if policy.out_of_range == "reject" else {}
    given = {name: bound for name, bound in bounds.items() if bound is not None}
    return {**schema, "type": ["number", *null], "format": "double", **given}


def record(schema: FeatureSchema, policy: ServingSpec) -> JsonSchema:
    """One row as an object."""
    return {
        "type": "object",
        "description": _policy(policy),
        "properties": {field.name: cell(field, policy) for field in schema.fields},
        **_closed(schema, policy),
    }


def columns(schema: FeatureSchema, policy: ServingSpec) -> JsonSchema:
    """Rows as one array, or one object of values by row, per column."""
    many: JsonSchema = {"type": ["array", "object"], "minItems": 1, "minProperties": 1}
    cells = ((field.name, cell(field, policy)) for field in schema.fields)
    return {
        "type": "object",
        "description": "One array per column, or one object of values by row; all of the same rows.",
        "properties": {name: {**many, "items": value, "additionalProperties": value} for name, value in cells},
        "minProperties": 1,
        **_closed(schema, policy),
    }


def split(schema: FeatureSchema, policy: ServingSpec) -> JsonSchema:
    """Rows as arrays in the order of ``columns``, as pandas writes them with ``orient="split"``."""
    return {
        "type": "object",
        "description": "Rows as arrays in the order of `columns`, which may be another one than this.",
        "properties": {
            "columns": {"type": "array", "const": schema.names},
            "index": {"type": ["array", "null"], "minItems": 1, "description": "One entry per row; not used."},
            "data": {"type": "array", "minItems": 1, "items": row(schema, policy)},
        },
        "required": ["columns", "data"],
        "additionalProperties": False,
    }


def row(schema: FeatureSchema, policy: ServingSpec) -> JsonSchema:
    """One row as an array, in the order of the model's columns."""
    cells = [cell(field, policy) for field in schema.fields]
    return {"type": "array", "prefixItems": cells, "items": False, "minItems": len(cells), "maxItems": len(cells)}


def rows(schema: FeatureSchema, policy: ServingSpec, suffix: str = "") -> JsonSchema:
    """Rows in any shape; ``suffix`` ends the names of the components that it refers to."""
    record_, columns_, split_ = (_component(f"{name}{suffix}") for name in ("Record", "Columns", "Split"))
    shapes = {
        "record": record_,
        "records": {"type": "array", "minItems": 1, "items": record_},
        "rows": {"type": "array", "minItems": 1, "items": row(schema, policy)},
        "columns": columns_,
        "split": split_,
    }
    return {"anyOf": [{"title": title, **shape} for title, shape in shapes.items()]}


def envelope(name: str, suffix: str = "") -> JsonSchema:
    """An object that holds rows under one key, as MLflow's and Azure ML's clients send them."""
    asking_nothing: JsonSchema = {
        "enum": [None, {}, [], "", 0, False],
        "description": "May be there, but has to be empty.",
    }
    ids = {"type": ["array", "null"], "minItems": 1, "items": {"type": "string", "maxLength": MOST_ID}}
    return {
        "type": "object",
        "title": name,
        "properties": {
            name: _component(f"{'Split' if name == 'dataframe_split' else 'Rows'}{suffix}"),
            "ids": {**ids, "description": "One id per row, for the logs."},
            "params": asking_nothing,
            "signature_name": asking_nothing,
        },
        "required": [name],
        "additionalProperties": False,
    }


def inference(schema: FeatureSchema, policy: ServingSpec) -> JsonSchema:
    """A request of the Open Inference Protocol: one tensor per column, or one matrix of all columns."""
    each = [_tensor({"const": field.name}, cell(field, policy), 1, least=1) for field in schema.fields]
    matrix = _tensor({"type": "string"}, row(schema, policy), len(each), least=2)
    output = {
        "type": "object",
        "properties": {"name": {"const": "score"}, "parameters": _parameters("classification")},
        "required": ["name"],
    }
    by_column = {"prefixItems": each, "items": policy.unknown_column == "count"}
    by_column["minItems"] = len(each) if policy.missing_value == "reject" else 1
    return {
        "type": "object",
        "description": "One tensor per column, in any order, each of the shape [rows] or [rows, 1]; or one tensor of "
        "the shape [rows, columns] with the columns in the model's order, its data nested or flat. Numbers may stand "
        "behind the JSON as binary data, as the protocol's extension says.",
        "properties": {
            "id": {"type": "string", "maxLength": MOST_ID, "description": "Comes back in the answer."},
            "inputs": {"type": "array", "anyOf": [by_column, {"prefixItems": [matrix], "items": False, "minItems": 1}]},
            "outputs": {"anyOf": [{"type": "array", "items": output}, _NOTHING]},
            "parameters": _parameters(),
        },
        "required": ["inputs"],
    }


def _tensor(name: JsonSchema, value: JsonSchema, width: int, *, least: int) -> JsonSchema:
    """A tensor of the shape [rows, width], or of [rows] when ``least`` is 1."""
    shape = {"prefixItems": [{"type": "integer", "minimum": 1}, {"const": width}], "items": False}
    return {
        "type": "object",
        "properties": {
            "name": name,
            "shape": {"type": "array", **shape, "minItems": least, "maxItems": 2},
            "datatype": {"enum": list(DATATYPES)},
            "data": {"type": "array", "minItems": 1, "items": value},
            "parameters": _parameters("shared_memory_region", "binary_data_size"),
        },
        "required": ["name", "shape", "datatype", "data"],
        "additionalProperties": False,
    }


def _parameters(*refused: str) -> JsonSchema:
    """Parameters of the protocol: an object without the refused ones, or nothing."""
    return {"anyOf": [{"type": "object", "properties": dict.fromkeys(refused, False)}, _NOTHING]}


def _component(name: str) -> JsonSchema:
    return {"$ref": f"#/components/schemas/{name}"}


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


def shaped(records: Sequence[Mapping[str, Any]], schema: FeatureSchema) -> dict[str, Any]:
    """The same rows in each shape of JSON, by the name of the shape."""
    rows = [dict(record) for record in records]
    by_column = {name: [record[name] for record in rows] for name in schema.names}
    matrix = [[record[name] for name in schema.names] for record in rows]
    split = {"columns": schema.names, "data": matrix}
    return {
        "record": rows[0],
        "records": rows,
        "columns": by_column,
        "rows": matrix,
        "data": {"data": rows, "ids": [f"row-{place}" for place in range(len(rows))]},
        "dataframe_split": {"dataframe_split": split},
        "dataframe_records": {"dataframe_records": rows},
        "instances": {"instances": matrix},
        "inputs": {"inputs": by_column},
        "input_data": {"input_data": split},
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
