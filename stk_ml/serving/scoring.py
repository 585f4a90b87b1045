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
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, perf_counter
from typing import Any, TypeAlias

from stk_ml.errors import RequestError, StkMlError
from stk_ml.serving import answers, work
from stk_ml.serving.bodies import Bodies, Gone, Receive
from stk_ml.serving.limits import Limits
from stk_ml.serving.protocol import Hook, Models, Verifier
from stk_ml.serving.routing import Routes
from stk_ml.serving.served import ServedModel
from stk_ml.serving.shadow import Shadower
from stk_ml.serving.stats import Stats
from stk_ml.serving.work import Answered, Asked, Headers

Scope: TypeAlias = MutableMapping[str, Any]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = logging.getLogger("stk_ml.serving")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_INFER = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?/infer")


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
        self.bodies = Bodies(limits)
        self.draining = False
        self._pool = ThreadPoolExecutor(min(4, os.cpu_count() or 1), "scoring")
        self._slow = ThreadPoolExecutor(1, "explaining")
        self._ids = map((os.urandom(6).hex() + "-%x").__mod__, itertools.count(1))

    async def score(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers POST /score, /invocations, and /v2/models/NAME[/versions/VERSION]/infer."""
        started = perf_counter()
        headers = dict(scope["headers"])
        request_id = self.request_id(headers)
        hook, code, reason = self.telemetry, 200, ""
        try:
            self.verifier.verify(scope["headers"])
            body = await self.bodies.read(headers, receive)
            routes = self.models.routes
            model = _choose(routes, scope["path"], headers, request_id)
            hook = model.hook
            plain = not (scope["query_string"] or scope["path"].endswith("/infer"))
            found = self.plain(headers, body, request_id, routes, model) if plain else None
            if found is not None:
                await self._send(send, 200, found[0], request_id, model.header)
                seconds = perf_counter() - started
                self.stats.add(200, seconds)
                hook.scored(request_id.decode(), *found[1:], scope["path"], seconds)
                return
            deadline = monotonic() + self.limits.seconds
            flags = work.flags(scope["query_string"])
            asked = Asked(scope["path"], flags, headers, body, request_id, routes, model, deadline)
            answered = await self._run(asked)
            await self._send(send, 200, answered.content, request_id, model.header, *answered.headers)
            answered.record()
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
            found = self.plain(headers, body, request_id, routes, model)
        except Exception:
            return None
        if found is None:
            return None
        content, row_id, row, score = found
        seconds = perf_counter() - started
        self.stats.add(200, seconds)
        model.hook.scored(request_id.decode(), row_id, row, score, path, seconds)
        return answers.whole(content, request_id, model)

    def plain(
        self, headers: dict[bytes, bytes], body: bytes, request_id: bytes, routes: Routes, model: ServedModel
    ) -> tuple[bytes, str, Any, float] | None:
        """The answer to a plain single row in JSON, with the row's id, values and score.

        None when the careful way has to be taken.
        """
        if (
            headers.get(b"content-type") != b"application/json"
            or b"content-encoding" in headers
            or not model.single
            or len(body) > self.limits.inline_bytes
        ):
            return None
        found = model.decoder.single(body)
        if found is None:
            return None
        row, row_id = found
        model.predictor.buffer[:] = row
        score = model.predictor.single()
        if routes.shadows:
            self.shadower.offer(routes, model, work.plain_copy(request_id, body, score))
        return answers.one(score, request_id, model), row_id, row, score

    async def refuse(self, scope: Scope, send: Send, failure: RequestError) -> None:
        """Answers a request that no scoring route takes."""
        await self._refuse(send, failure, self.request_id(dict(scope["headers"])), scope["path"])

    def close(self) -> None:
        """Ends the threads."""
        for pool in (self._pool, self._slow):
            pool.shutdown(wait=False, cancel_futures=True)
        self.shadower.close()

    def request_id(self, headers: dict[bytes, bytes]) -> bytes:
        """The caller's request id when it is well formed, else a new one."""
        given = headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given
        return next(self._ids).encode()

    async def _run(self, asked: Asked) -> Answered:
        """Small work at once, large work in a thread and for a limited time."""
        if len(asked.body) <= self.limits.inline_bytes and not asked.heavy:
            return work.answer(asked, self.limits, self.shadower)
        self.bodies.admit()
        self.bodies.active += 1
        try:
            pool = self._slow if asked.flags["explain"] else self._pool
            loop = asyncio.get_running_loop()
            future = loop.run_in_executor(pool, work.answer, asked, self.limits, self.shadower)
            return await asyncio.wait_for(future, self.limits.seconds)
        except TimeoutError:
            raise RequestError(
                f"scoring took longer than {self.limits.seconds:g} s", status=504, reason="timeout"
            ) from None
        finally:
            self.bodies.active -= 1

    async def _send(self, send: Send, code: int, content: bytes, request_id: bytes, *more: tuple[bytes, bytes]) -> None:
        await send(answers.start(code, len(content), request_id, *more, closing=self.draining))
        await send({"type": "http.response.body", "body": content})

    async def _refuse(self, send: Send, failure: StkMlError, request_id: bytes, path: str) -> tuple[int, str]:
        code = answers.status(failure)
        if code >= 500:
            log.warning("request %s: %s", request_id.decode(), failure)
        content = answers.error(failure, request_id, path)
        await self._send(send, code, content, request_id, *answers.headers_of(failure))
        return code, answers.reason(failure)

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
