"""The queries of this package: the files in ``kql/``, with their parameters put in front as ``let`` statements.

The text is what Log Analytics runs; :mod:`stk_ml.telemetry.local_reader` runs the same on a laptop.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from functools import cache
from importlib import resources

from stk_ml.errors import UnknownNameError, UsageError

#: What a parameter can be; a datetime has a time zone.
Parameter = str | bool | int | float | datetime

_PARAMETERS = re.compile(r"^// Parameters: (.*)$", re.MULTILINE)


def statement(name: str, **parameters: Parameter) -> str:
    r"""The text of a query with the values of its parameters.

    Args:
        name: of a file in ``kql/``, without its ending.
        parameters: all those that the file names in its comment, and no others.

    Raises:
        UnknownNameError: there is no such query.
        UsageError: the parameters are others, or hold what cannot be written in a query.

    Example:
        >>> text = statement("dropped", since=datetime(2026, 3, 1, tzinfo=UTC), until=datetime(2026, 3, 2, tzinfo=UTC),
        ...                  model='a "model"', endpoint="", deployment="")
        >>> print("\n".join(text.splitlines()[:3]))
        let since = datetime(2026-03-01T00:00:00.000000Z);
        let until = datetime(2026-03-02T00:00:00.000000Z);
        let model = "a \"model\"";
    """
    body = text(name)
    wanted = takes(name)
    if set(parameters) != set(wanted):
        raise UsageError(
            f"the query {name} takes {', '.join(wanted)}, not {', '.join(parameters) or 'nothing'}",
            hint=f"see stk_ml/telemetry/kql/{name}.kql",
        )
    lets = [f"let {key} = {literal(parameters[key])};" for key in wanted]
    return "\n".join([*lets, body])


def names() -> list[str]:
    """The queries that there are."""
    folder = resources.files(__package__) / "kql"
    return sorted(file.name.removesuffix(".kql") for file in folder.iterdir() if file.name.endswith(".kql"))


@cache
def text(name: str) -> str:
    """The file of a query as it is.

    Raises:
        UnknownNameError: there is no such query.
    """
    if name not in names():
        raise UnknownNameError("query", name, names())
    return (resources.files(__package__) / "kql" / f"{name}.kql").read_text(encoding="utf-8")


@cache
def takes(name: str) -> tuple[str, ...]:
    """Names of a query's parameters.

    Example:
        >>> takes("prediction")
        ('since', 'until', 'request_id', 'fragment')
    """
    found = _PARAMETERS.search(text(name))
    named = re.sub(r"\([^)]*\)", "", found[1]) if found else ""
    return tuple(re.findall(r"\w+", named))


def literal(value: Parameter) -> str:
    r"""A value as KQL writes it. Whatever a text holds, it stays one text.

    Raises:
        UsageError: a text holds signs that cannot be printed, a number is not finite, a time has no zone.

    Example:
        >>> print(literal('a "b" \\ c'), literal(True), literal(1.5), literal(-3))
        "a \"b\" \\ c" true 1.5 -3
    """
    if isinstance(value, str):
        if not value.isprintable():
            raise UsageError(f"{value!r} holds signs that cannot be asked for")
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise UsageError(f"{value} has no time zone")
        return f"datetime({value.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ})"
    if not math.isfinite(value):
        raise UsageError(f"{value} is no number that can be asked for")
    return repr(value)
