"""What the scoring app is made with: models, someone who knows callers, and a hook for telemetry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from stk_ml.identity.protocol import Caller

if TYPE_CHECKING:
    from stk_ml.serving.routing import Routes


class Models(Protocol):
    """Holds the loaded deployments. ``routes`` is replaced as a whole when the endpoint changes."""

    @property
    def routes(self) -> Routes:
        """The routes of the moment."""

    @property
    def trouble(self) -> str:
        """Why the newest state of the endpoint is not what is served; empty when it is."""


class Verifier(Protocol):
    """Knows who calls from the headers of a request: lower-case names and values, both bytes, as ASGI brings them."""

    def verify(self, headers: Sequence[tuple[bytes, bytes]]) -> Caller:
        """The caller; IdentityError with the status to answer when it is not shown. Takes microseconds."""


class Hook(Protocol):
    """Takes what was scored. Never blocks, never raises; see :class:`stk_ml.telemetry.recorder.Recorder`."""

    def scored(self, request_id: str, row_id: str, row: Any, score: float, route: str, seconds: float) -> None:
        """One row, scored and answered well: its id given by the caller (or empty), its encoded values (features,)."""

    def rows(self, request_id: str, row_ids: Sequence[str], matrix: Any, scores: Any) -> None:
        """Many scored rows: ids given by the caller (or none), matrix (rows, features), scores (rows,)."""

    def request(self, request_id: str, route: str, status: int, seconds: float, reason: str = "") -> None:
        """One answered request; ``reason`` is the word of the error that it was answered with."""

    def count(self, what: str, column: str, rows: int) -> None:
        """Values that the model's policy lets pass: ``unknown_column``, ``wrong_type``, ``missing_value``."""

    def difference(self, request_id: str, live: Sequence[float], shadow: Sequence[float]) -> None:
        """Scores that the caller got, and those of a shadow for the same rows."""
