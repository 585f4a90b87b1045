"""Values of inputs: their text as Azure ML puts it in a command, and what their type allows."""

from __future__ import annotations

from typing import Any

from stk_ml.errors import DeclarationError, closest
from stk_ml.orchestration.pipeline import Place, StepInput


def kind(value: Any) -> str:
    """The type of a value as YAML reads it.

    Example:
        >>> kind(True), kind(3), kind(0.5), kind("a")
        ('boolean', 'integer', 'number', 'string')
    """
    names = {bool: "boolean", int: "integer", float: "number"}
    return names.get(type(value), "string")


def text(value: Any) -> str:
    """What stands in the command for a value; Azure ML writes booleans as True and False.

    Example:
        >>> text(True), text(1e-3), text("x")
        ('True', '0.001', 'x')
    """
    return str(value)


def checked(value: str, declared: StepInput, place: Place) -> str:
    """The text of a literal when its declaration allows it.

    Raises:
        DeclarationError: it is of another type, outside its bounds, or not in its enum.

    Example:
        >>> checked("true", StepInput("flag", "boolean"), Place("p.yml", 3))
        'True'
        >>> checked("many", StepInput("n", "integer"), Place("p.yml", 3))
        Traceback (most recent call last):
        ...
        stk_ml.errors.DeclarationError: p.yml:3: n: 'many' is not an integer
    """
    problem, hint = "", ""
    if declared.type == "boolean":
        if value.lower() not in ("true", "false"):
            problem, hint = "not a boolean", "true or false"
        value = value.capitalize()
    elif declared.type in ("integer", "number"):
        try:
            number = int(value) if declared.type == "integer" else float(value)
        except ValueError:
            problem = "not an integer" if declared.type == "integer" else "not a number"
        else:
            if declared.minimum is not None and number < declared.minimum:
                problem = f"less than {declared.minimum:g}"
            if declared.maximum is not None and number > declared.maximum:
                problem = f"more than {declared.maximum:g}"
    if not problem and declared.enum and value not in declared.enum:
        problem, hint = f"not one of {', '.join(declared.enum)}", closest(value, declared.enum)
    if problem:
        raise DeclarationError(f"{declared.name}: {value!r} is {problem}", file=place.file, line=place.line, hint=hint)
    return value
