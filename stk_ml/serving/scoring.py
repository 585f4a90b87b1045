"""Scoring requests as raw ASGI: a plain single row is decoded, scored and answered without a detour.

Everything else (many rows, other bodies, explanations, rows that break the columns) takes the careful way through the
same steps, in a thread when it is large, so that it delays no small request.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, TypeAlias
from urllib.parse import parse_qs

from stk_ml.errors import RequestError, StkMlError
from stk_ml.serving import answers
from stk_ml.serving.decoding import oip
from stk_ml.serving.decoding.content import decompress
from stk_ml.serving.decoding.rows import Rows
from stk_ml.serving.limits import Limits
from stk_ml.serving.protocol import Hook, Models, Verifier
from stk_ml.serving.routing import Routes
from stk_ml.serving.served import ServedModel
from stk_ml.serving.shadow import Copy, Shadower
from stk_ml.serving.stats import Stats

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger("stk_ml.serving")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")
_YES = {"true": True, "1": True, "false": False, "0": False}


@dataclass(slots=True)
class Asked:
    """A request that takes the careful way."""

    scope: Scope
    headers: dict[bytes, bytes]
    body: bytes
    request_id: bytes
    routes: Routes
    model: ServedModel


class Gone(Exception):  # noqa: N818
    """The client went away before its request was whole."""


class Scoring:
    """Answers the scoring routes of one worker.

    Args:
        models: gives the routes of the moment.
        telemetry: takes the requests that reach no model.
        verifier: knows callers.
        limits: of this worker.
    """

    def __init__(self, models: Models, telemetry: Hook, verifier: Verifier, limits: Limits) -> None:
        self.models, self.telemetry, self.verifier, self.limits = models, telemetry, verifier, limits
        self.stats = Stats()
        self.shadower = Shadower()
        self.draining = False
        self.active = 0
        #: Requests whose body is still to come, and since when; see :meth:`expire`.
        self.reading: dict[asyncio.Task[Any], float] = {}
        self._late: set[asyncio.Task[Any]] = set()
        self._pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "scoring")
        self._ids = map((os.urandom(6).hex() + "-%x").__mod__, itertools.count(1))

    async def score(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers POST /score, /invocations, and /v2/models/NAME[/versions/VERSION]/infer."""
        started = perf_counter()
        headers = dict(scope["headers"])
        request_id = self.request_id(headers)
        hook, code, reason = self.telemetry, 200, ""
        try:
            self.verifier.verify(scope["headers"])
            body = await self._body(headers, receive)
            routes = self.models.routes
            model = _choose(routes, scope["path"], headers, request_id)
            hook = model.hook
            plain = not (scope["query_string"] or scope["path"].endswith("/infer"))
            content = self.plain(headers, body, request_id, routes, model) if plain else None
            more: Headers = ()
            if content is None:
                work = partial(self._careful, Asked(scope, headers, body, request_id, routes, model))
                content, more = await self._run(model, len(body), work)
            await self._send(send, 200, content, request_id, model.header, *more)
        except StkMlError as failure:
            code, reason = await self._refuse(send, failure, request_id, scope["path"])
        except Gone:
            code, reason = 499, "gone"
        except Exception as unexpected:
            code, reason = await self._fail(send, unexpected, request_id, scope["path"])
        seconds = perf_counter() - started
        self.stats.add(code, seconds)
        hook.request(request_id.decode(), scope["path"], code, seconds, reason)

    def express(self, path: str, given: Headers, body: bytes) -> bytes | None:
        """Headers (from content-type on) and body of the answer to a plain single row, without ASGI; else None.

        Args:
            path: of the route.
            given: the request's headers, names in lower case.
            body: whole.
        """
        started = perf_counter()
        headers = dict(given)
        try:
            if self.draining:
                return None
            self.verifier.verify(given)
            routes = self.models.routes
            request_id = self.request_id(headers)
            model = _choose(routes, "", headers, request_id)
            content = self.plain(headers, body, request_id, routes, model)
        except Exception:
            return None
        if content is None:
            return None
        seconds = perf_counter() - started
        self.stats.add(200, seconds)
        model.hook.request(request_id.decode(), path, 200, seconds)
        return answers.whole(content, request_id, model)

    def plain(
        self, headers: dict[bytes, bytes], body: bytes, request_id: bytes, routes: Routes, model: ServedModel
    ) -> bytes | None:
        """The answer to a plain single row in JSON; None when the careful way has to be taken."""
        if headers.get(b"content-type") != b"application/json" or b"content-encoding" in headers or not model.single:
            return None
        found = model.decoder.single(body)
        if found is None:
            return None
        row, row_id = found
        model.predictor.buffer[:] = row
        score = model.predictor.single()
        model.hook.row(request_id.decode(), row_id, row, score)
        if routes.shadows:
            self.shadower.offer(routes, model, Copy(request_id, body, "application/json", (score,)))
        return answers.one(score, request_id, model)

    async def refuse(self, scope: Scope, send: Send, failure: RequestError) -> None:
        """Answers a request that no scoring route takes."""
        await self._refuse(send, failure, self.request_id(dict(scope["headers"])), scope["path"])

    def expire(self) -> None:
        """Ends the requests whose body has not come in time; called about once a second."""
        oldest = perf_counter() - self.limits.seconds
        for task, since in list(self.reading.items()):
            if since < oldest:
                self._late.add(task)
                task.cancel()

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.shadower.close()

    def request_id(self, headers: dict[bytes, bytes]) -> bytes:
        """The caller's request id when it is well formed, else a new one."""
        given = headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return next(self._ids).encode()

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        if self.active >= self.limits.concurrency:
            raise RequestError(
                f"{self.active} requests are in work here already", status=429, reason="busy", hint="try again later"
            )
        length = headers.get(b"content-length", b"")
        if length.isdigit() and (len(length) > 15 or int(length) > self.limits.body_bytes):
            raise self._too_large()
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        self.reading[task] = perf_counter()
        self.active += 1
        try:
            message = await receive()
            body: bytes = message.get("body", b"")
            if message["type"] == "http.disconnect" or message.get("more_body"):
                body = await self._rest(message, receive)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            self._late.discard(task)
            task.uncancel()
            raise RequestError(
                f"the body did not come within {self.limits.seconds:g} s", status=408, reason="slow_body"
            ) from None
        finally:
            self.active -= 1
            del self.reading[task]
        return body

    async def _rest(self, message: MutableMapping[str, Any], receive: Receive) -> bytes:
        parts, size = [], 0
        while True:
            if message["type"] == "http.disconnect":
                raise Gone
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self.limits.body_bytes:
                raise self._too_large()
            if not message.get("more_body"):
                return b"".join(parts)
            message = await receive()

    def _too_large(self) -> RequestError:
        return RequestError(
            f"the body is larger than {self.limits.body_bytes} bytes",
            status=413,
            reason="too_large",
            hint="send fewer rows at a time, or score a file with stk-ml score",
        )

    async def _run(self, model: ServedModel, size: int, work: Callable[[], Any]) -> Any:
        """Small work at once, large work in a thread and for a limited time."""
        if size <= self.limits.inline_bytes and model.single:
            return work()
        if self.active >= self.limits.concurrency:
            raise RequestError(
                f"{self.active} requests are in work here already", status=429, reason="busy", hint="try again later"
            )
        self.active += 1
        try:
            future = asyncio.get_running_loop().run_in_executor(self._pool, work)
            return await asyncio.wait_for(future, self.limits.seconds)
        except TimeoutError:
            raise RequestError(
                f"scoring took longer than {self.limits.seconds:g} s", status=504, reason="timeout"
            ) from None
        finally:
            self.active -= 1

    def _careful(self, asked: Asked) -> tuple[bytes, Headers]:
        coding = asked.headers.get(b"content-encoding", b"").decode("latin-1")
        body = decompress(asked.body, coding, self.limits.body_bytes)
        if asked.scope["path"].endswith("/infer"):
            return self._infer(asked, body)
        flags = _flags(asked.scope["query_string"])
        content_type = asked.headers.get(b"content-type", b"").decode("latin-1")
        nan = asked.scope["path"] == "/invocations"
        rows = asked.model.decoder.decode(body, content_type, partial=flags["partial"], nan=nan)
        scores = self._scores(asked, rows)
        if asked.routes.shadows:
            self.shadower.offer(asked.routes, asked.model, Copy(asked.request_id, body, content_type, tuple(scores)))
        explanations = asked.model.explanations(rows.matrix) if flags["explain"] else None
        return answers.many(rows, scores, asked.request_id, asked.model, explanations), ()

    def _infer(self, asked: Asked, body: bytes) -> tuple[bytes, Headers]:
        model = asked.model
        request = oip.decode(model.decoder, body, asked.headers.get(b"inference-header-content-length"))
        scores = self._scores(asked, request.rows)
        return oip.encode(model.deployment.model, str(model.deployment.version), request, scores)

    def _scores(self, asked: Asked, rows: Rows) -> list[float]:
        model, request_id = asked.model, asked.request_id
        scores = model.predictor.many(rows.matrix)
        for (what, column), count in rows.counted.items():
            model.hook.count(what, column, count)
        if rows.bad:
            good = [place for place in range(len(scores)) if place not in rows.bad]
            ids = [rows.ids[place] for place in good] if rows.ids else ()
            model.hook.rows(request_id.decode(), ids, rows.matrix[good], scores[good])
        else:
            model.hook.rows(request_id.decode(), rows.ids, rows.matrix, scores)
        return scores.tolist()  # type: ignore[no-any-return]

    async def _send(self, send: Send, code: int, content: bytes, request_id: bytes, *more: tuple[bytes, bytes]) -> None:
        await send(answers.start(code, len(content), request_id, *more, closing=self.draining))
        await send({"type": "http.response.body", "body": content})

    async def _refuse(self, send: Send, failure: StkMlError, request_id: bytes, path: str) -> tuple[int, str]:
        code = answers.status(failure)
        if code >= 500:
            log.warning("request %s: %s", request_id.decode(), failure)
        content = answers.error(failure, request_id, path)
        await self._send(send, code, content, request_id, *answers.headers_of(failure))
        return code, getattr(failure, "reason", type(failure).__name__)

    async def _fail(self, send: Send, unexpected: Exception, request_id: bytes, path: str) -> tuple[int, str]:
        log.error("request %s failed", request_id.decode(), exc_info=unexpected)
        failure = RequestError("this request could not be scored; the log says why", status=500, reason="internal")
        return await self._refuse(send, failure, request_id, path)


def _choose(routes: Routes, path: str, headers: dict[bytes, bytes], request_id: bytes) -> ServedModel:
    wanted = headers.get(b"azureml-model-deployment", b"")
    if path.startswith("/v2/"):
        found = _INFER.fullmatch(path)
        name, version = (found[1], found[2] or "") if found else ("", "")
        return routes.of_model(name, version, request_id, wanted)
    if routes.only is not None and not wanted:
        return routes.only
    return routes.pick(request_id, wanted)


def _flags(query: bytes) -> dict[str, bool]:
    flags = {"explain": False, "partial": False}
    if query:
        given = parse_qs(query.decode("latin-1"), keep_blank_values=True)
        for name in flags.keys() & given.keys():
            word = given[name][-1].lower()
            if word not in _YES:
                raise RequestError(f"{name}={word[:32]!r} is neither true nor false", status=422, reason="query")
            flags[name] = _YES[word]
    return flags
