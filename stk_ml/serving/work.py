"""What a request takes beside waiting: decode, score, explain, and say it. No network, no event loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from stk_ml.errors import RequestError
from stk_ml.serving import answers
from stk_ml.serving.decoding import oip
from stk_ml.serving.decoding.content import decompress
from stk_ml.serving.shadow import Copy, Shadower

if TYPE_CHECKING:
    from stk_ml.serving.decoding.decoder import Decoder
    from stk_ml.serving.decoding.rows import Rows
    from stk_ml.serving.limits import Limits
    from stk_ml.serving.routing import Routes
    from stk_ml.serving.served import ServedModel

Headers = Sequence[tuple[bytes, bytes]]
_YES = {"true": True, "1": True, "false": False, "0": False}
#: Counted where rows are logged, whichever way they came.
_COUNTED_WITH_ROWS = ("unseen_category", "out_of_range")
_SLICE = 50


@dataclass(slots=True)
class Asked:
    """A request that takes the careful way: what was sent, and who answers it.

    Attributes:
        path: of the route.
        flags: ``explain`` and ``partial``.
        headers: last value of each name.
        body: as it was sent.
        request_id: of the request.
        routes: of the moment.
        model: that answers.
        deadline: on the monotonic clock; what has not been explained by then is given up.
    """

    path: str
    flags: dict[str, bool]
    headers: dict[bytes, bytes]
    body: bytes
    request_id: bytes
    routes: Routes
    model: ServedModel
    deadline: float

    @property
    def heavy(self) -> bool:
        """Whether its work may take far longer than its size lets expect."""
        return (
            self.flags["explain"]
            or b"content-encoding" in self.headers
            or not self.headers.get(b"content-type", b"application/json").startswith(b"application/json")
            or not self.model.single
        )


@dataclass(slots=True)
class Answered:
    """The body of a good answer, its further headers, and what is logged once it is on its way."""

    content: bytes
    headers: Headers
    record: Callable[[], None]


def answer(asked: Asked, limits: Limits, shadower: Shadower) -> Answered:
    """Does the work of a request; from any thread.

    Raises:
        StkMlError: it cannot be scored; nothing of it is logged then.
    """
    coding = asked.headers.get(b"content-encoding", b"").decode("latin-1")
    body = decompress(asked.body, coding, limits.body_bytes)
    model = asked.model
    if asked.path.endswith("/infer"):
        length = asked.headers.get(b"inference-header-content-length")
        request = oip.decode(model.decoder, body, length)
        scores = model.predictor.many(request.rows.matrix)
        content, headers = oip.encode(model.deployment.model, str(model.deployment.version), request, scores.tolist())
        decode: Callable[[Decoder], Rows] = partial(_decode_tensors, body=body, length=length)
        return Answered(content, headers, partial(_record, asked, request.rows, scores, shadower, decode))
    content_type = asked.headers.get(b"content-type", b"").decode("latin-1")
    nan = asked.path == "/invocations"
    rows = model.decoder.decode(body, content_type, partial=asked.flags["partial"], nan=nan)
    scores = model.predictor.many(rows.matrix)
    explanations = _explanations(asked, rows, limits) if asked.flags["explain"] else None
    content = answers.many(rows, scores.tolist(), asked.request_id, model, explanations)
    decode = partial(_decode, body=body, content_type=content_type)
    return Answered(content, (), partial(_record, asked, rows, scores, shadower, decode))


def flags(query: bytes) -> dict[str, bool]:
    """``explain`` and ``partial`` of a query string.

    Raises:
        RequestError: 422, one of them is neither true nor false.

    Example:
        >>> flags(b"explain=true")
        {'explain': True, 'partial': False}
    """
    found = {"explain": False, "partial": False}
    if query:
        given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
        for name in found.keys() & given.keys():
            word = given[name][-1].lower()
            if word not in _YES:
                raise RequestError(f"{name}={word[:32]!r} is neither true nor false", status=422, reason="query")
            found[name] = _YES[word]
    return found


def _explanations(asked: Asked, rows: Rows, limits: Limits) -> list[Any]:
    if len(rows.matrix) > limits.explained_rows:
        raise RequestError(
            f"{len(rows.matrix)} rows cannot be explained at a time, {limits.explained_rows} can",
            status=413,
            reason="too_large",
            hint="send fewer, or explain a file with stk-ml score --explain",
        )
    found: list[Any] = []
    for start in range(0, len(rows.matrix), _SLICE):
        if monotonic() > asked.deadline:
            raise RequestError("explaining takes too long", status=504, reason="timeout", hint="send fewer rows")
        found += asked.model.explanations(rows.matrix[start : start + _SLICE])
    return found


def _record(asked: Asked, rows: Rows, scores: Any, shadower: Shadower, decode: Callable[[Decoder], Rows]) -> None:
    hook, request_id = asked.model.hook, asked.request_id.decode()
    for (what, column), count in rows.counted.items():
        if what not in _COUNTED_WITH_ROWS:
            hook.count(what, column, count)
    if rows.bad:
        good = [place for place in range(len(scores)) if place not in rows.bad]
        ids = [rows.ids[place] for place in good] if rows.ids else ()
        hook.rows(request_id, ids, rows.matrix[good], scores[good])
    else:
        hook.rows(request_id, rows.ids, rows.matrix, scores)
    if asked.routes.shadows:
        copy = Copy(asked.request_id, len(asked.body), decode, tuple(scores.tolist()))
        shadower.offer(asked.routes, asked.model, copy)


def _decode(decoder: Decoder, body: bytes, content_type: str) -> Rows:
    return decoder.decode(body, content_type, partial=True, nan=True)


def _decode_tensors(decoder: Decoder, body: bytes, length: bytes | None) -> Rows:
    return oip.decode(decoder, body, length, partial=True).rows


def plain_copy(request_id: bytes, body: bytes, score: float) -> Copy:
    """The shadow copy of a plain single row."""
    return Copy(request_id, len(body), partial(_decode, body=body, content_type="application/json"), (score,))
