"""The careful path: strict JSON, whatever the body is, with a name for what is wrong in it."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import msgspec

from stk_ml.errors import RequestError

_BOM = b"\xef\xbb\xbf"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse(body: bytes, max_rows: int, *, nan: bool = False) -> Any:
    r"""The value of a JSON document (RFC 8259), read strictly.

    Args:
        body: UTF-8 without a byte order mark.
        max_rows: most rows taken; bounds the number of lists and objects, which take far more memory than body.
        nan: whether the bare word NaN is taken, as null; JSON has none, and MLflow's client writes it all the same.

    Raises:
        RequestError: 400; its reason is ``encoding``, ``json``, ``depth`` or ``duplicate`` (a key twice in an object).
            413 for far more lists and objects than rows.

    Example:
        >>> parse(b'{"km": 1, "kind": null}', 10)
        {'km': 1, 'kind': None}
        >>> parse(b'{"km": 1, "km": 2}', 10)
        Traceback (most recent call last):
        stk_ml.errors.RequestError: the key 'km' is given twice in one object
    """
    if body.count(b"[") + body.count(b"{") > 4 * max_rows + 1000:
        raise RequestError(f"far more than {max_rows} lists and objects", status=413, reason="too_large")
    value = _quick(body)
    if value is not None:
        return value
    if body.startswith(_BOM):
        raise RequestError("the body starts with a byte order mark", reason="encoding", hint="send UTF-8 without one")
    try:
        value = (_WITH_NAN if nan else _STRICT).decode(body.decode("utf-8"))
        if _SURROGATE.search(body):  # half a surrogate pair is text that no answer could repeat
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RequestError:
        raise
    except UnicodeError as error:
        raise RequestError("the body is not UTF-8", reason="encoding") from error
    except RecursionError as error:
        raise RequestError("the body is nested too deeply", reason="depth") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise RequestError(f"the body is not JSON: {error.msg} at {where}", reason="json") from error
    except ValueError as error:  # Python's limit on the digits of an integer
        raise RequestError("the body holds a number of more than 4,000 digits", reason="json") from error
    return value


def _quick(body: bytes) -> Any:
    """The value by a faster parser, if no key can have been given twice: else, and of anything wrong, None.

    There is a colon behind each key. If there are as many as keys are found, none of them was lost to its double.
    """
    try:
        value = msgspec.json.decode(body)
    except Exception:  # whatever it is, the strict parser names it
        return None
    return value if body.count(b":") == _keys(value) else None


def _keys(value: Any) -> int:
    """Number of keys of an object and of the objects right inside it."""
    return len(value) + sum(map(_keys, value.values())) if isinstance(value, dict) else 0


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise RequestError(f"the key {double[:64]!r} is given twice in one object", reason="duplicate")
    return found


def _constant(word: str) -> NoReturn:
    raise RequestError(f"the body is not JSON: {word} is no number there", reason="json", hint="null means missing")


def _nan(word: str) -> None:
    if word != "NaN":
        _constant(word)


_STRICT = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)
_WITH_NAN = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_nan)
