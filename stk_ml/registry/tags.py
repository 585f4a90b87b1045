"""Names of the tags that the registry writes, and how long their values may be. Pure.

In MLflow every tag of ours starts with ``stk_ml.``; in :class:`stk_ml.contracts.ModelVersion` it goes without.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from stk_ml.contracts import Dataset, Evaluation, GateVerdict

PREFIX = "stk_ml."
DIGEST = "digest"
DATA_DIGEST = "data.digest"
CODE_VERSION = "code_version"
LOCK_DIGEST = "lock_digest"
LEVEL = "interval_level"
OUTCOME = "gate.outcome"
OVERTAKEN = "gate.overtaken"
REPLACES, REPLACED_BY = "replaces", "replaced_by"
PROMOTED_WHY, PROMOTED_BY, PROMOTED_AT = "promoted.why", "promoted.by", "promoted.at"

CHAMPION, CHALLENGER = "champion", "challenger"

#: Longest key; MLflow's own bound.
KEY_LENGTH = 250
#: Longest value of a tag or parameter that every MLflow server takes, old ones too.
VALUE_LENGTH = 500


def bounded(value: object, limit: int = VALUE_LENGTH) -> str:
    """The text of a value on one line, cut to ``limit`` characters with a mark that it was cut.

    Example:
        >>> bounded("a fairly long reason", limit=18)
        'a f... (20 in all)'
    """
    text = " ".join(str(value).split())
    if len(text) <= limit:
        return text
    mark = f"... ({len(text)} in all)"
    return text[: limit - len(mark)] + mark


def key(text: str) -> str:
    """A key that MLflow takes: other characters become ``_``, and it is cut to the longest that is allowed.

    Slashes go too, for MLflow refuses keys that would be unusual paths.

    Example:
        >>> key("learner.params.a=b"), key("data/flights.csv"), key("..")
        ('learner.params.a_b', 'data_flights.csv', '__')
    """
    kept = re.sub(r"[^\w\-. ]", "_", text)[:KEY_LENGTH]
    return kept if kept.strip(".") else "_" * len(kept)


def stored(tags: Mapping[str, object]) -> dict[str, str]:
    """Tags as MLflow keeps them: prefixed, with valid keys and bounded values; those without a value are left out.

    Example:
        >>> stored({"code_version": "4f2a", "lock_digest": "", "stk_ml.digest": "ab"})
        {'stk_ml.code_version': '4f2a', 'stk_ml.digest': 'ab'}
    """
    return {key(PREFIX + name.removeprefix(PREFIX)): bounded(value) for name, value in tags.items() if str(value)}


def shown(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as people and programs read them: ours without the prefix, sorted; an emptied tag is no tag.

    Example:
        >>> shown({"stk_ml.digest": "ab", "team": "parcels", "stk_ml.replaced_by": ""})
        {'digest': 'ab', 'team': 'parcels'}
    """
    return {name.removeprefix(PREFIX): value for name, value in sorted(tags.items()) if value}


def of_dataset(dataset: Dataset) -> dict[str, object]:
    """Where the data came from: its digest, the pinned tables and the digests of the feature views."""
    snapshot = dataset.snapshot
    return {
        DATA_DIGEST: dataset.digest,
        "data.rows": dataset.rows,
        "data.now": dataset.now,
        **{f"table.{table.name}": f"version {table.version} sha256 {table.digest}" for table in snapshot.tables},
        **{f"view.{view}": digest for view, digest in snapshot.views.items()},
    }


def of_evaluation(evaluation: Evaluation) -> dict[str, object]:
    """The metrics of the test split, so that a list of versions needs no look at their runs; the intervals' level."""
    test = evaluation.find("test")
    values = dict(sorted(test.values.items())) if test else {}
    level = next((f"{interval.level:g}" for interval in values.values()), "")
    return {LEVEL: level, **{f"test.{name}": f"{interval.value:.6g}" for name, interval in values.items()}}


def of_verdict(verdict: GateVerdict) -> dict[str, object]:
    """What the gate decided and why, check by check."""
    gap = verdict.difference
    words = {True: "passed", False: "failed", None: "cannot tell"}
    return {
        OUTCOME: verdict.outcome,
        "gate.reason": verdict.reason,
        "gate.rows": verdict.rows,
        "gate.difference": f"{gap.value:.6g} [{gap.low:.6g}, {gap.high:.6g}] at {gap.level:g}" if gap else "",
        **{f"gate.{check.name}": f"{words[check.passed]}: {check.detail}" for check in verdict.checks},
    }
