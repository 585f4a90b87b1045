"""What several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stk_ml.contracts import Interval
    from stk_ml.workspace import Workspace


def open_workspace(args: argparse.Namespace, **flags: str | None) -> Workspace:
    """The workspace that the common flags name."""
    from stk_ml.workspace import Workspace

    return Workspace(getattr(args, "project", None), profile=getattr(args, "profile", None), **flags)


def interval(estimate: Interval | None) -> str:
    """An estimate as people read it: ``0.731 (0.722-0.740)``; the dash for none."""
    if estimate is None:
        return "-"
    digits = 3 if abs(estimate.value) < 100 else 1
    return f"{estimate.value:.{digits}f} ({estimate.low:.{digits}f}-{estimate.high:.{digits}f})"
