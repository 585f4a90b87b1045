"""``stk-ml`` as a user runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

Run = Callable[..., subprocess.CompletedProcess[str]]


def answer(result: subprocess.CompletedProcess[str]) -> Any:
    """The JSON document that a command printed."""
    return json.loads(result.stdout)
