"""What the scoring app answers: one shape for scores, one for errors, built as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from stk_ml.errors import DataError, InvalidRowsError, RequestError, StkMlError

if TYPE_CHECKING:
    from stk_ml.serving.decoding.rows import Rows
    from stk_ml.serving.served import ServedModel

_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")
#: Sent where no request could be read.
HEAD_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: 30\r\nconnection: close\r\n\r\nThe request head is too large."
)
_CLOSE = (b"connection", b"close")


def one(score: float, request_id: bytes, model: ServedModel) -> bytes:
    """The answer to a single row."""
    number = b"%r" % score if score - score == 0.0 else b"null"
    return b'{"predictions":[' + number + b'],"request_id":"' + request_id + b'",' + model.about


def many(rows: Rows, scores: Sequence[float], request_id: bytes, model: ServedModel, explanations: Any = None) -> bytes:
    """The answer to many rows: null for a row that was rejected, whose reasons are in ``errors``."""
    values: Sequence[float | None] = scores
    if rows.bad:
        values = [None if place in rows.bad else score for place, score in enumerate(scores)]
    parts = [b'{"predictions":', _encode(values)]
    if rows.problems:
        parts += [b',"errors":', _encode(rows.problems)]
    if explanations is not None:
        if rows.bad:
            explanations = [None if place in rows.bad else text for place, text in enumerate(explanations)]
        parts += [b',"explanations":', _encode(explanations)]
    parts += [b',"request_id":"', request_id, b'",', model.about]
    return b"".join(parts)


def error(failure: StkMlError, request_id: bytes, path: str = "") -> bytes:
    """The answer to a request that could not be scored; see :func:`error_of` for what the path changes."""
    fields: dict[str, Any] = {
        "type": reason(failure),
        "message": str(failure),
        "hint": failure.hint,
        "request_id": request_id.decode("latin-1"),
    }
    if isinstance(failure, InvalidRowsError):
        fields |= {"problems": failure.problems, "total": failure.total}
    return _encode(error_of(fields, path))


def error_of(fields: dict[str, Any], path: str) -> dict[str, Any]:
    """An error in the shape that its route's clients read: below /v2 the Open Inference Protocol wants text.

    Example:
        >>> error_of({"type": "json", "message": "cut short"}, "/score")
        {'error': {'type': 'json', 'message': 'cut short'}}
        >>> error_of({"type": "json", "message": "cut short"}, "/v2/models/late/infer")
        {'error': 'cut short', 'type': 'json'}
    """
    if not path.startswith("/v2"):
        return {"error": fields}
    return {"error": fields["message"]} | {name: value for name, value in fields.items() if name != "message"}


def status(failure: StkMlError) -> int:
    """The HTTP status of an error; 500 for what is not the caller's doing."""
    return int(getattr(failure, "status", 422 if isinstance(failure, DataError) else 500))


def reason(failure: StkMlError) -> str:
    """One word for what an error is about, for metrics and callers."""
    return str(getattr(failure, "reason", "rows" if isinstance(failure, DataError) else "error"))


def start(
    code: int, length: int, request_id: bytes, *more: tuple[bytes, bytes], closing: bool = False
) -> dict[str, Any]:
    """The ASGI message that starts an answer of JSON.

    Args:
        code: HTTP status.
        length: of the body, in bytes.
        request_id: echoed in ``x-request-id``.
        more: further headers.
        closing: whether the connection ends after this answer.
    """
    headers = [_JSON, (b"content-length", b"%d" % length), (b"x-request-id", request_id), *more]
    if closing:
        headers.append(_CLOSE)
    return {"type": "http.response.start", "status": code, "headers": headers}


def whole(content: bytes, request_id: bytes, model: ServedModel) -> bytes:
    """Headers and body of a good answer as they go over the wire, from content-type on."""
    return (
        b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\n"
        b"azureml-model-deployment: %b\r\n\r\n%b" % (len(content), request_id, model.header[1], content)
    )


def headers_of(failure: StkMlError) -> list[tuple[bytes, bytes]]:
    """Headers that an error's status calls for."""
    code = status(failure)
    if code in (429, 503):
        return [(b"retry-after", b"1")]
    if code == 401:
        return [(b"www-authenticate", b"Bearer")]
    if isinstance(failure, RequestError) and code == 405:
        return [(b"allow", b"POST")]
    return []
