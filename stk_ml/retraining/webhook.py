"""The door that alerts come in by, over HTTP: ``POST /alerts`` is answered with a decision that ``GET`` shows later.

An alert is authenticated, decided on once, and answered with 202 and a link to the decision; the same alert again gets
the same decision with 200. Nothing here trains: the governor decides, and whoever was given to it starts the run.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from stk_ml.errors import IdentityError, RequestError, StkMlError, UnknownNameError, UsageError
from stk_ml.identity.protocol import Caller, TokenVerifier
from stk_ml.retraining import signature
from stk_ml.retraining.alerts import Alert, parse
from stk_ml.retraining.inbox import Reply

log = logging.getLogger("stk_ml.alerts")
_REMEMBERED = 10_000
_CALLERS = 1024


Decide = Callable[[Alert], Reply]
Find = Callable[[str], Reply | None]


@dataclass(frozen=True)
class Limits:
    """What one process takes at most.

    Attributes:
        body_bytes: of one alert.
        seconds: for its body to arrive.
        rate: new alerts a second that one caller may send about one model in the long run; 0 for any number.
        burst: new alerts that one caller may send about one model at once.
        deciding: decisions in work at once.
    """

    body_bytes: int = 256 * 2**10
    seconds: float = 10.0
    rate: float = 20.0
    burst: int = 200
    deciding: int = 4


class TokenBuckets:
    """A token bucket per name; the names that came last are kept.

    Args:
        rate: tokens a second; 0 for no limit.
        burst: tokens of a full bucket.
        clock: monotonic seconds.

    Example:
        >>> seconds = iter([0.0, 0.0, 0.25])
        >>> buckets = TokenBuckets(2.0, 1, lambda: next(seconds))
        >>> buckets.take("ada"), buckets.take("ada"), buckets.take("ada")
        (0.0, 0.5, 0.25)
    """

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, float(burst), clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> float:
        """Takes a token: 0 when there was one, else the seconds until there is."""
        if not self._rate:
            return 0.0
        now = self._clock()
        level, then = self._buckets.pop(name, (self._burst, now))
        level = min(self._burst, level + (now - then) * self._rate)
        taken = level >= 1.0
        self._buckets[name] = (level - 1.0 if taken else level, now)
        if len(self._buckets) > _CALLERS:
            self._buckets.popitem(last=False)
        return 0.0 if taken else (1.0 - level) / self._rate


class _Desk:
    """Decides on each key once: who comes while it is being decided waits for that, who comes later is told again."""

    def __init__(self, decide: Decide, at_once: int) -> None:
        self._decide, self._slots = decide, asyncio.Semaphore(at_once)
        self._working: dict[str, asyncio.Task[Reply]] = {}
        self._known: OrderedDict[str, Reply] = OrderedDict()

    def knows(self, alert: Alert) -> bool:
        """Whether it is decided, or being decided."""
        return alert.reply_key in self._known or alert.reply_key in self._working

    async def reply(self, alert: Alert) -> tuple[Reply, bool]:
        """The reply, and whether this alert is the first of its key to come to this process."""
        known = self._known.get(alert.reply_key)
        if known is not None:
            return known, False
        task = self._working.get(alert.reply_key)
        first = task is None
        if task is None:
            task = self._working[alert.reply_key] = asyncio.create_task(self._work(alert))
        return await asyncio.shield(task), first

    async def _work(self, alert: Alert) -> Reply:
        try:
            async with self._slots:
                reply = await asyncio.to_thread(self._decide, alert)
            self._known[alert.reply_key] = reply
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
            return reply
        finally:
            del self._working[alert.reply_key]


class _Door:
    """Knows the caller of a request, and reads its body within bounds."""

    def __init__(
        self, verifier: TokenVerifier | None, secret: Callable[[], Sequence[bytes]] | None, limits: Limits, open_: bool
    ) -> None:
        self._verifier, self._secret, self._limits, self._open = verifier, secret, limits, open_

    async def enter(self, request: Request) -> tuple[Caller, bytes]:
        """Caller and body; a bearer token is checked before the body is read."""
        authorization = request.headers.get("authorization")
        signed = request.headers.get(signature.HEADER)
        if authorization is not None:
            caller = self._bearer(authorization)
            return caller, await self._body(request)
        body = await self._body(request)
        if signed is not None:
            return self._signed(signed, body if request.method == "POST" else request.url.path.encode()), body
        if self._open:
            return Caller("anyone", "none"), body
        ways = [
            *(["Authorization: Bearer TOKEN"] if self._verifier else []),
            *([f"{signature.HEADER}: t=...,v1=..."] if self._secret else []),
        ]
        raise IdentityError("no credential was sent", reason="missing", hint=f"send {' or '.join(ways)}")

    def _bearer(self, header: str) -> Caller:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            raise IdentityError("the Authorization header is not of the scheme Bearer", reason="scheme")
        if self._verifier is None:
            raise IdentityError("bearer tokens are not accepted here", reason="token")
        return self._verifier.verify(token.strip(), now=time.time())

    def _signed(self, header: str, content: bytes) -> Caller:
        if self._secret is None:
            raise IdentityError("signatures are not accepted here", reason="signature")
        return signature.verify(self._secret(), header, content, now=time.time())

    async def _body(self, request: Request) -> bytes:
        most = self._limits.body_bytes
        told = request.headers.get("content-length", "0")
        if told.isdigit() and int(told) > most:
            raise _too_large(most)
        body = bytearray()
        try:
            async with asyncio.timeout(self._limits.seconds):
                async for part in request.stream():
                    body += part
                    if len(body) > most:
                        raise _too_large(most)
        except TimeoutError:
            raise RequestError("the body did not arrive in time", status=408, reason="slow") from None
        return bytes(body)


def create_app(
    decide: Decide,
    verifier: TokenVerifier | None,
    *,
    secret: Callable[[], Sequence[bytes]] | None = None,
    find: Find,
    limits: Limits | None = None,
    anyone: bool = False,
) -> FastAPI:
    """The app.

    Args:
        decide: decides on an alert; called in threads, once per key in this process. The same key must give the same
            reply, also in another process and after a restart (:class:`stk_ml.retraining.inbox.AlertDesk`).
        verifier: checks bearer tokens (scope ``retrain``); None when none are accepted.
        secret: the secrets that signatures count by (:class:`stk_ml.retraining.signature.Secrets`); None for none.
        find: the reply of a key, as it stands now; None when there is none.
        limits: what is taken at most.
        anyone: lets in whoever shows no credential.

    Raises:
        UsageError: nobody could come in.
    """
    if verifier is None and secret is None and not anyone:
        raise UsageError("nobody could send an alert", hint="accept bearer tokens or signatures")
    limits = limits or Limits()
    door = _Door(verifier, secret, limits, anyone)
    desk = _Desk(decide, limits.deciding)
    buckets, refusals = TokenBuckets(limits.rate, limits.burst), TokenBuckets(1.0, 10)
    app = FastAPI(title="stk-ml alerts", docs_url=None, redoc_url=None)

    @app.post("/alerts", status_code=202)
    async def alerts(request: Request) -> Response:
        """Takes an alert: Azure Monitor's common alert schema, or a generic JSON."""
        caller, body = await door.enter(request)
        try:
            alert = parse(body, now=time.time())
        except RequestError:
            _pay(buckets, caller.name)
            raise
        if not desk.knows(alert):  # Azure sends the same again until it is answered: that costs nothing
            _pay(buckets, f"{caller.name} {alert.model}")
        reply, first = await desk.reply(alert)
        if first:
            what = "fired" if alert.fired else "resolved"
            about = (reply.key, alert.kind, alert.model, what, caller.name, reply.decision)
            log.info("%s: %s of %s %s, from %r: %s", *about)
        return _answer(reply, 202 if first else 200)

    @app.get("/decisions/{key}")
    async def decisions(key: str, request: Request) -> Response:
        """The decision on an alert, as it stands now."""
        await door.enter(request)
        reply = await asyncio.to_thread(find, key)
        if reply is None:
            raise RequestError("there is no decision of that key", status=404, reason="key")
        return _answer(reply, 200)

    @app.get("/health/live")
    async def live() -> Response:
        """Whether it answers."""
        return JSONResponse({"status": "live"})

    @app.exception_handler(StkMlError)
    async def refused(request: Request, error: StkMlError) -> Response:
        status = _status(error)
        if status >= 500 and not isinstance(error, IdentityError):
            log.error("%s: %s", type(error).__name__, error)
            return _undecided(status, _headers(error))
        if not refusals.take(""):
            log.warning("refused with %d: %s", status, error)
        reason = getattr(error, "reason", "unknown" if isinstance(error, UnknownNameError) else "failure")
        return _problem(status, reason, str(error), error.hint, _headers(error))

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        return _problem(error.status_code, "http", str(error.detail), "POST /alerts, GET /decisions/KEY", error.headers)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return _undecided(500, {})

    return app


def _pay(buckets: TokenBuckets, name: str) -> None:
    seconds = buckets.take(name)
    if seconds:
        raise _RateError(seconds)


def _answer(reply: Reply, status: int) -> Response:
    link = f"/decisions/{reply.key}"
    return JSONResponse(asdict(reply) | {"link": link}, status, {"location": link})


class _RateError(RequestError):
    """A caller sends more than it may."""

    def __init__(self, seconds: float) -> None:
        super().__init__("too many alerts", status=429, reason="rate", hint="wait, and send the alert again")
        self.seconds = seconds


def _status(error: StkMlError) -> int:
    if isinstance(error, UnknownNameError):
        return 422
    return int(getattr(error, "status", 503 if error.retryable else 500))


def _headers(error: StkMlError) -> dict[str, str]:
    status = _status(error)
    if status == 401:
        return {"www-authenticate": "Bearer"}
    if isinstance(error, _RateError):
        return {"retry-after": str(math.ceil(error.seconds))}
    if status == 413 or status == 408:
        return {"connection": "close"}
    return {"retry-after": "5"} if status == 503 else {}


def _undecided(status: int, headers: dict[str, str]) -> Response:
    """What went wrong here is for the log: it may name files of this machine."""
    return _problem(status, "failure", "the request could not be decided on", "the server's log says why", headers)


def _problem(status: int, reason: str, message: str, hint: str, headers: Any) -> Response:
    return JSONResponse({"error": {"type": reason, "message": message, "hint": hint}}, status, headers)


def _too_large(most: int) -> RequestError:
    return RequestError(f"the body is larger than {most} bytes", status=413, reason="too_large")
