"""Tells what made a prediction: request -> prediction -> deployment -> model version -> run -> features -> raw tables.

stk-ml trace REQUEST_ID

The request id stands in each answer of the scoring app (request_id, header x-request-id). Where the chain ends, it
says why; the exit code is then 1. --json prints the links.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from stk_ml.cli.output import Output
from stk_ml.errors import StkMlError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from stk_ml.contracts import ModelVersion
    from stk_ml.workspace import Workspace

_SHOWN_ROWS = 5


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the flags of ``stk-ml trace``."""
    parser.add_argument("request", metavar="REQUEST_ID", help="as the caller got it")
    parser.add_argument("--since", metavar="TIME", help="look only at what was logged later (ISO 8601, UTC): quicker")
    parser.set_defaults(run=run)


@dataclass(frozen=True)
class Link:
    """One link of the chain.

    Attributes:
        name: of the link.
        facts: what is known, by name.
        ends: why the chain ends here; empty when it goes on.
    """

    name: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    ends: str = ""


def run(args: argparse.Namespace, out: Output) -> int:
    """Follows the chain as far as it goes."""
    from stk_ml import model_spec
    from stk_ml.cli.common import open_workspace
    from stk_ml.telemetry.local_reader import LocalLogReader
    from stk_ml.telemetry.queries import prediction

    try:
        since = model_spec.instant(args.since).timestamp() if args.since else 0.0
    except ValueError as error:
        raise UsageError(f"--since: {error}", hint="write 2013-07-01 or 2013-07-01T06:00") from error
    workspace = open_workspace(args)
    told = prediction(LocalLogReader(workspace.settings.telemetry), args.request, since)
    links = list(chain(workspace, told))
    ends = links[-1].ends
    out.document({"request": args.request, "links": links, "complete": not ends, "ends": ends})
    for link in links:
        _show(link, out)
    return 1 if ends else 0


def chain(workspace: Workspace, told: Sequence[Mapping[str, Any]]) -> Iterator[Link]:
    """The links, up to the first that cannot be followed further.

    Args:
        workspace: of the project.
        told: what the log tells of the request (:func:`stk_ml.telemetry.queries.prediction`).
    """
    answered = [row for row in told if not row["shadow"]]
    for link in (_request(workspace, answered, len(told) - len(answered)), _prediction(answered)):
        yield link
        if link.ends:
            return
    served = next(row for row in reversed(answered) if row["source"] != "request")
    yield Link("deployment", {name: served.get(name, "") for name in ("endpoint", "deployment", "worker")})
    version, link = _version(workspace, served)
    yield link
    if version is None:
        return
    for link in (_run(version), _features(version), _tables(workspace, version)):
        yield link
        if link.ends:
            return


def _request(workspace: Workspace, told: Sequence[Mapping[str, Any]], shadows: int) -> Link:
    if not told:
        folder = workspace.settings.telemetry
        why = f"the log {folder} tells of no such request; it may not be written yet (it is once in some seconds)"
        if not folder.is_dir():
            why = f"there is no log at {folder}: nothing was served here, or with --no-telemetry"
        return Link("request", ends=why)
    facts: dict[str, Any] = {"time": _iso(told[0]["time"])}
    asked = [row for row in told if row["source"] == "request"]
    if asked:
        names = ("route", "status", "milliseconds", "reason")
        facts |= {name: asked[-1][name] for name in names if name in asked[-1]}
    if shadows:
        facts["scored by shadows too"] = shadows
    return Link("request", facts)


def _prediction(told: Sequence[Mapping[str, Any]]) -> Link:
    """The rows that were scored; under an id that callers have used several times, of the newest time."""
    scored = [row for row in told if row["source"] == "prediction"] or [row for row in told if row["source"] == "row"]
    if not scored:
        reason = next((row["reason"] for row in reversed(told) if row.get("reason")), "")
        return Link("prediction", ends=f"the request was not scored{f': {reason}' if reason else ''}")
    newest = scored[-1]
    rows = [row for row in scored if row["digest"] == newest["digest"] and row["time"] == newest["time"]]
    shown = [{name: row[name] for name in ("row_id", "score") if name in row} for row in rows]
    facts: dict[str, Any] = {"time": _iso(newest["time"]), "rows": len(rows), "scores": shown[:_SHOWN_ROWS]}
    sampled = next((row["values"] for row in reversed(told) if "values" in row), None)
    if sampled is not None:
        facts["values"] = sampled
    if len(rows) < len(scored):
        facts["other uses of this id"] = len({(row["time"], row["digest"]) for row in scored}) - 1
    return Link("prediction", facts)


def _version(workspace: Workspace, served: Mapping[str, Any]) -> tuple[ModelVersion | None, Link]:
    """The registered version that served: by number, or by digest where a folder was served."""
    model, number, digest = served["model"], served.get("version", 0), served["digest"]
    facts = {"model": model, "version": number, "digest": digest}
    try:
        known = workspace.registry.versions(model)
    except UnknownNameError:
        return None, Link("model version", facts, f"the registry has no model {model}: it was served from a folder")
    except StkMlError as error:
        return None, Link("model version", facts, f"the registry cannot be asked: {error}")
    found = next((each for each in known if each.digest == digest and number in (0, each.version)), None)
    if found is None:
        same = next((each for each in known if each.version == number), None)
        why = "has no version of this digest"
        if same is not None:
            why = f"has another digest for version {number} ({same.digest[:12]}): it is not what was served"
        return None, Link("model version", facts, f"the registry {why}")
    facts |= {"version": found.version, "aliases": list(found.aliases), "created": found.created}
    return found, Link("model version", facts)


def _run(version: ModelVersion) -> Link:
    if not version.run_id:
        return Link("run", ends=f"{version.name}:{version.version} names no run")
    wanted = ("code_version", "lock_digest", "gate.outcome", "gate.reason", "promoted.at", "promoted.by")
    return Link("run", {"run": version.run_id, **{name: version.tags[name] for name in wanted if name in version.tags}})


def _features(version: ModelVersion) -> Link:
    tags = version.tags
    if "data.digest" not in tags:
        return Link("features", ends="the run noted no training data")
    facts = {name.removeprefix("data."): value for name, value in tags.items() if name.startswith("data.")}
    return Link("features", {**facts, "views": _under("view.", tags)})


def _tables(workspace: Workspace, version: ModelVersion) -> Link:
    """The raw tables as they were pinned, each looked up in the lake: is that version still what it was?"""
    noted = _under("table.", version.tags)
    if not noted:
        return Link("raw tables", ends="the run noted no raw tables")
    found = {name: _table(workspace, name, text) for name, text in noted.items()}
    gone = [name for name, facts in found.items() if facts["now"] not in ("as it was", "a file")]
    return Link("raw tables", found, f"not as they were any more: {', '.join(gone)}" if gone else "")


def _table(workspace: Workspace, name: str, text: str) -> dict[str, Any]:
    words = dict(zip(*[iter(text.split())] * 2, strict=False))
    number, digest = int(words.get("version", -1)), words.get("sha256", "")
    facts: dict[str, Any] = {"version": number, "digest": digest}
    if number < 0:
        return {**facts, "now": "a file"}
    try:
        table = workspace.lake.table(name)
        pinned = table.pinned(number)
        facts |= {f"load {key}": value for key, value in table.metadata(number).items()}
        return {**facts, "now": "as it was" if pinned.digest == digest else "another content"}
    except StkMlError as error:
        return {**facts, "now": str(error)}


def _under(prefix: str, tags: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix(prefix): value for name, value in tags.items() if name.startswith(prefix)}


def _show(link: Link, out: Output) -> None:
    lines = [line for name, value in link.facts.items() for line in _lines(name, value)]
    for place, line in enumerate(lines):
        out.line(f"{'' if place else link.name:<15}{line}")
    if link.ends:
        out.line(f"{'' if lines else link.name:<15}the chain ends here: {link.ends}")


def _lines(name: str, value: Any) -> Iterator[str]:
    """A fact for people; what there are many of is on lines of its own."""
    if name in ("views", "values"):
        for key, each in value.items():
            yield f"{name.rstrip('s')} {key}: {each}"
    elif isinstance(value, Mapping):
        yield f"{name}: {_joined(value)}"
    elif isinstance(value, list) and value:
        yield f"{name}: {', '.join(_joined(each) if isinstance(each, Mapping) else str(each) for each in value)}"
    elif value not in ("", []):
        yield f"{name}: {value:g}" if isinstance(value, float) else f"{name}: {value}"


def _joined(facts: Mapping[str, Any]) -> str:
    return " ".join(
        str(value) if name in ("score", "row_id", "now") else f"{name} {value}" for name, value in facts.items()
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
