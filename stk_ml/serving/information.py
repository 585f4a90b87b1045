"""What the scoring app says about itself: health, what is served, and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse, PlainTextResponse

if TYPE_CHECKING:
    from stk_ml.serving.protocol import Models
    from stk_ml.serving.routing import Routes
    from stk_ml.serving.served import ServedModel

VERSION = metadata.version("stk-ml")
_DATATYPES = {"integer": "FP64", "number": "FP64", "boolean": "BOOL", "category": "BYTES"}


def add_routes(app: FastAPI, models: Callable[[], Models], draining: Callable[[], bool]) -> None:
    """Adds the routes that only tell; none needs a credential."""

    def ready() -> bool:
        return bool(models().routes.live) and not draining()

    @app.get("/health/live")
    @app.get("/v2/health/live")
    async def live() -> dict[str, Any]:
        return {"status": "live"}

    @app.get("/health/ready")
    @app.get("/v2/health/ready")
    async def is_ready() -> JSONResponse:
        routes = models().routes
        served = [{**model.identity, "traffic": model.deployment.traffic} for model in routes.served]
        state = "ready" if ready() else "draining" if draining() else "loading"
        content = {"status": state, "revision": routes.revision, "deployments": served}
        return JSONResponse(content, 200 if ready() else 503)

    @app.get("/ping")
    @app.get("/health")
    async def ping() -> PlainTextResponse:
        return PlainTextResponse("" if ready() else "not ready", 200 if ready() else 503)

    @app.get("/version")
    async def version() -> PlainTextResponse:
        return PlainTextResponse(VERSION)

    @app.get("/v2")
    async def server() -> dict[str, Any]:
        return {"name": "stk-ml", "version": VERSION, "extensions": ["binary_tensor_data"]}

    @app.get("/v2/models/{model_name}")
    @app.get("/v2/models/{model_name}/versions/{model_version}")
    async def model_metadata(model_name: str, model_version: str = "") -> dict[str, Any]:
        return _metadata(models().routes, model_name, model_version)

    @app.get("/v2/models/{model_name}/ready")
    @app.get("/v2/models/{model_name}/versions/{model_version}/ready")
    async def model_ready(model_name: str, model_version: str = "") -> JSONResponse:
        _serving(models().routes, model_name, model_version)
        return JSONResponse({"name": model_name, "ready": ready()}, 200 if ready() else 503)


def _serving(routes: Routes, name: str, version: str) -> list[ServedModel]:
    found = [model for model in (*routes.live, *routes.served) if model.answers_to(name, version)]
    if not found:
        raise HTTPException(404, f"model {name[:64]!r} is not served here")
    return found


def _metadata(routes: Routes, name: str, version: str) -> dict[str, Any]:
    found = _serving(routes, name, version)
    versions = sorted({str(model.deployment.version) for model in found})
    inputs = [
        {"name": field.name, "datatype": _DATATYPES[field.type], "shape": [-1]}
        for field in found[0].predictor.schema.fields
    ]
    outputs = [{"name": "score", "datatype": "FP64", "shape": [-1]}]
    return {"name": name, "versions": versions, "platform": "stk-ml", "inputs": inputs, "outputs": outputs}


def openapi(routes: Routes, *, secured: bool) -> dict[str, Any]:
    """The OpenAPI document of what is served: one entry per model and version, with made-up rows as examples."""
    from stk_ml.serving.openapi import document

    seen: dict[tuple[str, str], Any] = {}
    for model in (*routes.live, *routes.served):
        identity = (model.deployment.model, str(model.deployment.version))
        if identity not in seen:
            predictor = model.predictor
            columns = predictor.schema, predictor.document.problem, model.examples
            seen[identity] = (*identity, *columns, model.decoder.policy)
    return document(list(seen.values()), title="stk-ml scoring", version=VERSION, auth=secured)


def add_docs(app: FastAPI) -> None:
    """Adds /docs from files on this machine: a cluster without a way out shows it too."""
    import fastapi_offline
    from fastapi.openapi.docs import get_swagger_ui_html
    from fastapi.responses import HTMLResponse
    from fastapi.staticfiles import StaticFiles

    app.mount("/docs/static", StaticFiles(directory=Path(fastapi_offline.__file__).parent / "static"))

    @app.get("/docs")
    async def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="openapi.json",
            title=app.title,
            swagger_js_url="docs/static/swagger-ui-bundle.js",
            swagger_css_url="docs/static/swagger-ui.css",
            swagger_favicon_url="docs/static/favicon.png",
        )
