"""What one worker of the scoring app takes at most."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of one worker.

    Attributes:
        body_bytes: of a request's body, also after it was decompressed.
        held_bytes: of all bodies that are arriving; what comes on top is answered 429.
        rows: of one request.
        explained_rows: of one request with ``explain=true``, which takes milliseconds a row.
        concurrency: requests in work at once; more are answered 429 with Retry-After.
        seconds: for one request, from its head to its scores; for the body to arrive, and for the scores.
        inline_bytes: a body up to this size is scored at once; larger ones in a thread, so that they delay nobody.
        head_bytes: of a request's line and headers; a connection that sends more is closed.
        linger: seconds that a draining worker still accepts connections, being not ready; and then keeps idle ones open
            for a request that may be on its way.
    """

    body_bytes: int = 16 * 2**20
    held_bytes: int = 256 * 2**20
    rows: int = 100_000
    explained_rows: int = 1000
    concurrency: int = 256
    seconds: float = 30.0
    inline_bytes: int = 32 * 2**10
    head_bytes: int = 64 * 2**10
    linger: float = 1.0
