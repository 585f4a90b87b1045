"""What one MLflow run holds: a model spec as parameters, an evaluation as metrics. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from stk_ml.contracts import Evaluation
from stk_ml.model_spec import ModelSpec
from stk_ml.registry import tags

#: At most so many parameters are logged; the whole spec is in the artifact.
MOST_PARAMS = 200
_MONTH = "month="


class Logged(NamedTuple):
    """One metric as MLflow takes it; ``timestamp`` in milliseconds since 1970, 0 for none."""

    key: str
    value: float
    timestamp: int = 0
    step: int = 0


def params(spec: ModelSpec, extra: Mapping[str, str]) -> dict[str, str]:
    """The declared model as flat parameters (``learner.estimator``, ``split.test_from``), what is empty left out.

    Args:
        spec: the declared model.
        extra: more parameters, such as the number of rounds found; they win.

    Returns:
        At most 200, keys and values bounded.
    """
    flat = {**dict(_flat(msgspec.to_builtins(spec))), **extra}
    named = {tags.key(name): tags.bounded(value) for name, value in flat.items() if str(value)}
    return dict(list(named.items())[:MOST_PARAMS])


def metrics(evaluation: Evaluation) -> list[Logged]:
    """The evaluation as MLflow metrics.

    ``test.auc``, ``test.auc.low`` and ``test.auc.high`` for each split; ``test.auc.month`` is a series: its step
    reads as year and month (201307), its time is the start of that month. Slices stay in ``evaluation.json``.
    """
    found: list[Logged] = []
    for group in evaluation.metrics:
        for name, interval in sorted(group.values.items()):
            metric = tags.key(f"{group.split}.{name}")
            if group.group == "all":
                bounds = (("", interval.value), (".low", interval.low), (".high", interval.high))
                found += [Logged(metric + suffix, float(value)) for suffix, value in bounds]
            elif month := _month(group.group):
                found.append(Logged(f"{metric}.month", float(interval.value), *month))
    return found


def _month(group: str) -> tuple[int, int] | None:
    """Start in milliseconds and step of ``month=2013-07``; None for another group."""
    try:
        start = datetime.strptime(group.removeprefix(_MONTH), "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(start.timestamp() * 1000), start.year * 100 + start.month


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        if value:
            yield path, json.dumps(value, ensure_ascii=False, sort_keys=True)
    elif value is not None:
        yield path, str(value)
