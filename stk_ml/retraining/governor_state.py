"""What the governor of retraining remembers and says: frozen, and JSON through :mod:`stk_ml.contracts`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

Action = Literal["rest", "start", "blocked", "wait"]
Step = Literal["train", "canary", "restore"]
#: ``refused``: by the gate. ``stopped``: a person, or broken data, ended the canary. ``timeout``: nobody said how.
Outcome = Literal["promoted", "refused", "rolled_back", "stopped", "failed", "timeout"]


@dataclass(frozen=True)
class Alert:
    """A request to retrain from outside.

    Attributes:
        key: its idempotency key: the same for the same alert however often it is sent, and for its resolution.
        kind: ``fired``, ``resolved`` (the reason is gone), ``manual`` (a person asks) or ``broken`` (the data is:
            nothing is started until it is resolved, or a sound window that ended later has been looked at).
        time: when it fired or was resolved, ISO 8601 with Z.
        reason: for people.
    """

    key: str
    kind: Literal["fired", "resolved", "manual", "broken"]
    time: str
    reason: str = ""


@dataclass(frozen=True)
class Seen:
    """A window as the governor remembers it: whose it was, and what it said."""

    digest: str
    start: str
    end: str
    says: Literal["alarm", "calm", "unclear", "broken"]
    reason: str = ""


@dataclass(frozen=True)
class Retrain:
    """One retrain, running while ``outcome`` is empty.

    Attributes:
        key: idempotency key: of the alert, or model, digest and end of the newest window.
        started, updated, ended: ISO 8601 with Z; when it was last heard of; empty while it runs.
        because: why it was started.
        seen: windows and alerts up to then are answered by it.
        watched: digest of the model whose windows asked for it.
        step: where it is.
        champion: version that was champion before it; 0 for none, -1 before it was looked up.
        version: that it made; 0 before it did.
        outcome: how it ended; empty while it runs.
        reason: why it ended so.
    """

    key: str
    started: str
    because: str
    seen: str
    watched: str = ""
    step: Step = "train"
    updated: str = ""
    ended: str = ""
    champion: int = -1
    version: int = 0
    outcome: Outcome | Literal[""] = ""
    reason: str = ""

    @property
    def id(self) -> str:
        """A short name for folders and links: day of the start and a digest of the key."""
        return f"{self.started[:10]}-{hashlib.sha256(self.key.encode()).hexdigest()[:10]}"


@dataclass(frozen=True)
class GovernorState:
    """All that is remembered of a model: its last windows, open alerts, answered keys, retrains (newest last).

    ``set_back`` is when the clock was seen to have been set back behind what is remembered; empty when it was not.
    """

    model: str
    windows: tuple[Seen, ...] = ()
    alerts: tuple[Alert, ...] = ()
    answered: tuple[str, ...] = ()
    retrains: tuple[Retrain, ...] = ()
    set_back: str = ""

    @property
    def running(self) -> Retrain | None:
        """The retrain in flight."""
        return self.retrains[-1] if self.retrains and not self.retrains[-1].outcome else None


@dataclass(frozen=True)
class Decision:
    """What to do now.

    Attributes:
        action: ``start`` a retrain; ``rest``: nothing asks for one; ``wait`` until ``until``; ``blocked``.
        reason: one sentence for people.
        key: idempotency key of what asked; that of the running retrain while one runs; empty at rest.
        until: when to look again, ISO 8601 with Z; empty when time alone changes nothing.
        notify: whether a person has to look into it.
    """

    action: Action
    reason: str
    key: str = ""
    until: str = ""
    notify: bool = False


def iso(moment: datetime) -> str:
    """ISO 8601 with Z, to the second.

    Example:
        >>> iso(datetime(2024, 1, 1, 6, tzinfo=UTC))
        '2024-01-01T06:00:00Z'
        >>> iso(datetime(1, 1, 1, tzinfo=UTC))
        '0001-01-01T00:00:00Z'
    """
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"
