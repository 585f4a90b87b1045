"""The model card."""

from typing import Any


def render(spec: Any, evaluation: Any, dataset: Any, model: Any, parts: Any) -> str:
    """Card."""
    return "<!doctype html>"
