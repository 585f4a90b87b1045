"""Shadow copies: requests that one deployment has answered, scored again by another, out of everyone's way."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stk_ml.serving.decoding.decoder import Decoder
    from stk_ml.serving.decoding.rows import Rows
    from stk_ml.serving.routing import Routes
    from stk_ml.serving.served import ServedModel

log = logging.getLogger("stk_ml.serving")
_PAUSE = 0.05
_BYTES = 32 * 2**20
_LENGTH = 4096


@dataclass(frozen=True)
class Copy:
    """A request that was answered.

    Attributes:
        request_id: of the request.
        size: of its body, in bytes.
        decode: gives its rows to the decoder of another model.
        scores: that its caller got.
    """

    request_id: bytes
    size: int
    decode: Callable[[Decoder], Rows]
    scores: tuple[float, ...]


class Shadower:
    """Scores copies in a thread of its own. What it cannot keep up with is dropped, the oldest first, and counted.

    Attributes:
        dropped: copies that were never scored.
    """

    def __init__(self, length: int = _LENGTH, size: int = _BYTES) -> None:
        self._length, self._most = length, size
        self._waiting: deque[tuple[Routes, ServedModel, Copy]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.dropped = 0

    def offer(self, routes: Routes, answered: ServedModel, copy: Copy) -> None:
        """Takes a copy for every shadow but the one that answered; returns at once."""
        with self._lock:
            self._waiting.append((routes, answered, copy))
            self._bytes += copy.size
            while len(self._waiting) > self._length or self._bytes > self._most:
                self._bytes -= self._waiting.popleft()[2].size
                self.dropped += 1
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends the thread; what waits is dropped."""
        self._ended.set()

    def _work(self) -> None:
        while not self._ended.wait(_PAUSE):
            while (taken := self._take()) is not None and not self._ended.is_set():
                routes, answered, copy = taken
                for shadow in routes.shadows:
                    if shadow is not answered:
                        _score(shadow, copy)

    def _take(self) -> tuple[Routes, ServedModel, Copy] | None:
        with self._lock:
            if not self._waiting:
                return None
            taken = self._waiting.popleft()
            self._bytes -= taken[2].size
            return taken


def _score(shadow: ServedModel, copy: Copy) -> None:
    request_id = copy.request_id.decode()
    try:
        rows = copy.decode(shadow.decoder)
        scores = shadow.predictor.many(rows.matrix)
    except Exception as error:
        log.warning("shadow %s could not score request %s: %s", shadow.deployment.name, request_id, error)
        shadow.hook.request(request_id, "shadow", 500, 0.0, getattr(error, "reason", type(error).__name__))
        return
    both = [place for place in range(len(scores)) if place not in rows.bad]
    shadow.hook.rows(request_id, rows.ids if not rows.bad else (), rows.matrix[both], scores[both])
    live = [copy.scores[place] for place in both]
    shadow.hook.difference(request_id, live, scores[both].tolist())
