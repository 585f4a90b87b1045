"""Alerts as they come in: Azure Monitor's common alert schema, or a generic JSON, made into one :class:`Alert`.

Azure Monitor (``schemaId: azureMonitorCommonAlertSchema``, essentials and alert context of version 1). Its ``model``
and ``kind`` are, first found first taken:

1. the custom properties ``model`` and ``kind`` of the alert rule,
2. dimensions of these names, by which the rule splits its query,
3. the name of the rule, of the form ``stk-ml.KIND.MODEL``, such as ``stk-ml.drift.flight-delay``.

Generic: ``{"model": "flight-delay", "kind": "drift", "id": "7", "time": "2026-11-24T06:00:00Z", "fired": true,
"detail": "..."}``; only model and kind are required.

The key is what makes the same alert, sent again or resolved, the same: of Azure Monitor its id and when it fired; of
the generic form its ``id``. Without an id it is all that the alert says, and without a time the day on which it came.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeVar

import msgspec

from stk_ml.errors import RequestError, closest

T = TypeVar("T")

SCHEMA = "azureMonitorCommonAlertSchema"
#: What an alert may be about: ``drift`` and ``performance`` ask for a retrain; ``quality`` says that data is broken,
#: which forbids one; ``request`` is a person's wish.
KINDS = ("drift", "performance", "quality", "request")
_MODEL = re.compile(r"(?=.{1,128}$)[a-z][a-z0-9]*(-[a-z0-9]+)*")
_RULE = re.compile(rf"(?:.*/)?stk-ml\.(?P<kind>{'|'.join(KINDS)})\.(?P<model>[^/]+)")
_DETAIL = 500
_FIRST_YEAR = 1970
_TAKEN = (
    f'Azure Monitor\'s common alert schema (schemaId {SCHEMA}, version 1), or {{"model": ..., "kind": '
    f'"{"|".join(KINDS)}", "id"?, "time"?, "fired"?, "detail"?}}'
)


@dataclass(frozen=True)
class Alert:
    """Something that may call for a retrain.

    Attributes:
        key: idempotency key: the same for the same alert sent again, and for its resolution; 32 hexadecimal digits.
        model: name of the model.
        kind: one of :data:`KINDS`.
        fired: False when it says that its cause is gone (resolved).
        time: when it fired or was resolved, ISO 8601 with Z.
        detail: one line for people, at most 500 characters.
    """

    key: str
    model: str
    kind: str
    fired: bool
    time: str
    detail: str = ""

    @property
    def reply_key(self) -> str:
        """What the reply is found by: that an alert is resolved gets a reply of its own."""
        return self.key if self.fired else f"{self.key}-resolved"


class _Generic(msgspec.Struct, forbid_unknown_fields=True):
    model: str
    kind: str
    id: str | int = ""
    time: str = ""
    fired: bool = True
    detail: str = ""


class _Essentials(msgspec.Struct, rename="camel"):
    alert_id: str
    alert_rule: str
    monitor_condition: str
    fired_date_time: str
    essentials_version: str | None = None
    alert_context_version: str | None = None
    resolved_date_time: str | None = None
    severity: str | None = None
    description: str | None = None


class _Data(msgspec.Struct, rename="camel"):
    essentials: _Essentials
    alert_context: dict[str, Any] | None = None
    custom_properties: dict[str, Any] | None = None


class _Common(msgspec.Struct, rename="camel"):
    schema_id: str
    data: _Data


def parse(body: bytes, *, now: float) -> Alert:
    """The alert that a body holds.

    Args:
        body: JSON.
        now: unix seconds when it came, for an alert that tells no time.

    Raises:
        RequestError: 400 when it is no JSON object, 422 when it is not one of the two forms, of another version, or
            names no model or kind; the hint says what is taken.

    Example:
        >>> alert = parse(b'{"model": "eta", "kind": "drift", "id": 7, "time": "2026-11-24T06:00:00Z"}', now=0)
        >>> alert.model, alert.kind, alert.fired, alert.time, len(alert.key)
        ('eta', 'drift', True, '2026-11-24T06:00:00Z', 32)
        >>> parse(b'{"schemaId": "AzureMonitorMetricAlert", "data": {}}', now=0)
        Traceback (most recent call last):
        stk_ml.errors.RequestError: alerts of the schema 'AzureMonitorMetricAlert' are not taken
    """
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise RequestError("the body is not JSON", status=400, reason="json", hint=f"send {_TAKEN}") from None
    if not isinstance(document, dict):
        raise RequestError("the body is not a JSON object", status=400, reason="json", hint=f"send {_TAKEN}")
    if "schemaId" not in document:
        return _of_generic(_convert(document, _Generic), now)
    if document["schemaId"] != SCHEMA:
        what = f"alerts of the schema {_shown(document['schemaId'])} are not taken"
        raise _refused(what, hint=f"switch on the common alert schema in the action group; taken is {_TAKEN}")
    return _of_azure(_convert(document, _Common).data, now)


def _of_generic(given: _Generic, now: float) -> Alert:
    time = _time(given.time, now) if given.time else datetime.fromtimestamp(now, UTC)
    said = given.time or f"{time:%Y-%m-%d}"
    about = (str(given.id),) if given.id != "" else (said, given.detail)
    model, kind = _model(given.model), _kind(given.kind)
    key = _key("generic", model, kind, *about)
    return Alert(key, model, kind, given.fired, _iso(time), _line(given.detail))


def _of_azure(data: _Data, now: float) -> Alert:
    essentials = data.essentials
    for name, version in (
        ("essentialsVersion", essentials.essentials_version),
        ("alertContextVersion", essentials.alert_context_version),
    ):
        if version and version.split(".")[0] != "1":
            raise _refused(f"alerts of {name} {_shown(version)} are not taken", hint=f"taken is {_TAKEN}")
    condition = essentials.monitor_condition
    if condition not in ("Fired", "Resolved"):
        raise _refused(f"the monitorCondition {_shown(condition)} is not known", hint="there are: Fired, Resolved")
    fired = condition == "Fired"
    time = essentials.fired_date_time if fired else essentials.resolved_date_time or essentials.fired_date_time
    text = f"{essentials.alert_rule} {essentials.severity or ''}: {essentials.description or condition}"
    model, kind = _model(_named("model", data)), _kind(_named("kind", data))
    key = _key("azure", essentials.alert_id, essentials.fired_date_time, model, kind)
    return Alert(key, model, kind, fired, _iso(_time(time, now)), _line(text))


def _named(what: str, data: _Data) -> str:
    """The model or kind, by the mapping that the module's docstring tells."""
    context = data.alert_context or {}
    properties = context.get("properties")
    for given in (data.custom_properties, properties if isinstance(properties, dict) else None):
        value = _insensitive(given or {}, what)
        if value:
            return value
    values = sorted({value for name, value in _dimensions(context) if name.lower() == what and value})
    if len(values) > 1:
        shown = ", ".join(map(_shown, values[:3]))
        raise _refused(f"the alert is about several values of {what}: {shown}", hint=f"split the rule by {what}")
    if values:
        return values[0]
    rule = _RULE.fullmatch(data.essentials.alert_rule)
    if rule is None:
        raise _refused(
            f"the alert of the rule {_shown(data.essentials.alert_rule)} does not say its {what}",
            hint=f"give it a custom property {what}, split it by a dimension {what}, or call it stk-ml.KIND.MODEL",
        )
    return rule[what]


def _insensitive(properties: Mapping[str, Any], what: str) -> str:
    return next((str(value) for name, value in properties.items() if name.lower() == what and value), "")


def _dimensions(context: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values of the dimensions: of each condition, and where older log alerts have them."""
    condition = context.get("condition")
    conditions = condition.get("allOf") if isinstance(condition, dict) else None
    for part in (*_dicts(conditions), context):
        for dimension in _dicts(part.get("dimensions") or part.get("Dimensions")):
            yield str(dimension.get("name", "")), str(dimension.get("value") or "")


def _dicts(values: Any) -> Iterable[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def _convert(document: Any, into: type[T]) -> T:
    try:
        return msgspec.convert(document, into)
    except msgspec.ValidationError as error:
        raise _refused(f"the alert is not as expected: {_line(str(error))[:200]}", hint=f"taken is {_TAKEN}") from None


def _model(name: str) -> str:
    if not _MODEL.fullmatch(name):
        raise _refused(
            f"{_shown(name)} is not the name of a model", hint="small letters and digits, with single dashes between"
        )
    return name


def _kind(kind: str) -> str:
    if kind.lower() not in KINDS:
        raise _refused(f"alerts of the kind {_shown(kind)} are not known", hint=closest(kind, KINDS))
    return kind.lower()


def _time(text: str, now: float) -> datetime:
    """The time; .NET's default, and whatever else lies before all clocks, counts as none and so as ``now``."""
    try:
        time = datetime.fromisoformat(text)
        if time.year < _FIRST_YEAR:
            return datetime.fromtimestamp(now, UTC)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _refused(f"{_shown(text)} is not a time", hint="ISO 8601, such as 2026-11-24T06:00:00Z") from None


def _iso(time: datetime) -> str:
    return time.replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def _key(*parts: str) -> str:
    return sha256("\x00".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _line(text: str) -> str:
    """One line without control characters, so that it may stand in a log."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:_DETAIL]


def _shown(value: object) -> str:
    text = str(value)
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _refused(message: str, *, hint: str) -> RequestError:
    return RequestError(message, status=422, reason="alert", hint=hint)
