"""The scoring app: one FastAPI app whose scoring routes are answered before FastAPI is asked.

Routes: ``POST /score`` (Azure ML), ``POST /invocations`` and ``GET /ping /health /version`` (MLflow), ``/v2/...`` (Open
Inference Protocol), ``GET /health/live /health/ready``, ``/openapi.json``, ``/docs``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from stk_ml.errors import RequestError
from stk_ml.serving import answers, information
from stk_ml.serving.bodies import Receive
from stk_ml.serving.limits import Limits
from stk_ml.serving.protocol import Hook, Models, Verifier
from stk_ml.serving.scoring import Scope, Scoring, Send

_SCORE = ("/score", "/invocations")


class ScoringApp(FastAPI):
    """See the module. ``scoring`` answers the scoring routes; ``models`` gives what is served at the moment."""

    def __init__(self, models: Models, scoring: Scoring, *, secured: bool) -> None:
        super().__init__(
            title="stk-ml scoring", version=information.VERSION, lifespan=_lifespan, docs_url=None, redoc_url=None
        )
        self.models, self.scoring, self.secured = models, scoring, secured
        self._document: tuple[int, dict[str, Any]] = (-1, {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI door: scoring routes first, FastAPI for all else."""
        if scope["type"] == "http":
            path = scope["path"]
            if path in _SCORE or (path.startswith("/v2/models/") and path.endswith("/infer")):
                if scope["method"] == "POST":
                    return await self.scoring.score(scope, receive, send)
                return await self.scoring.refuse(scope, send, _only_post(scope))
        return await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """One document for all routes, made from the schemas of what is served now."""
        routes = self.models.routes
        if self._document[0] != routes.revision or not self._document[1]:
            self._document = routes.revision, information.openapi(routes, secured=self.secured)
        return self._document[1]


def create_app(
    models: Models, telemetry: Hook, verifier: Verifier, *, limits: Limits | None = None, secured: bool = True
) -> ScoringApp:
    """The scoring app.

    Args:
        models: the deployments, each with its model, decoder and telemetry hook.
        telemetry: takes the requests that reach no deployment.
        verifier: knows callers; scoring routes ask it, all others are open.
        limits: of this worker.
        secured: whether the OpenAPI document says that scoring needs a credential.
    """
    app = ScoringApp(models, Scoring(models, telemetry, verifier, limits or Limits()), secured=secured)
    information.add_routes(app, lambda: models, lambda: app.scoring.draining)
    information.add_docs(app)
    app.add_exception_handler(HTTPException, _http_error)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    assert isinstance(app, ScoringApp)  # noqa: S101
    sweeper = asyncio.create_task(_sweep(app.scoring))
    try:
        yield
    finally:
        sweeper.cancel()
        app.scoring.close()


async def _sweep(scoring: Scoring) -> None:
    while True:
        await asyncio.sleep(min(1.0, scoring.limits.seconds / 4))
        scoring.bodies.expire()


async def _http_error(request: Request, error: Exception) -> JSONResponse:
    """Starlette's own 404 and 405 in the shape of all other errors."""
    assert isinstance(error, HTTPException)  # noqa: S101
    code = error.status_code
    reason, message, hint = "http", str(error.detail), ""
    if code == 404 and message != "Not Found":
        reason = "model"
    elif code == 404:
        reason, message, hint = "route", f"there is no route {request.url.path[:64]!r}", "see /docs for those there are"
    elif code == 405:
        reason, message = "method", f"{request.url.path[:64]!r} does not take {request.method}"
    request_id = request.app.scoring.request_id(dict(request.scope["headers"])).decode()
    fields = {"type": reason, "message": message, "hint": hint, "request_id": request_id}
    headers = {**(error.headers or {}), "x-request-id": request_id}
    return JSONResponse(answers.error_of(fields, request.url.path), code, headers=headers)


def _only_post(scope: Scope) -> RequestError:
    return RequestError(f"{scope['path'][:64]!r} takes POST, not {scope['method']}", status=405, reason="method")
