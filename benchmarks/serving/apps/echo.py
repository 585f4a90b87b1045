"""Reads the body, parses it, answers a small JSON."""

from __future__ import annotations

from typing import Any

import orjson


async def app(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI app."""
    if scope["type"] != "http":
        return
    message = await receive()
    body = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message["body"]
    rows = len(orjson.loads(body)["data"]) if body else 0
    answer = orjson.dumps({"rows": rows})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
