"""Rows of telemetry as the columns of Log Analytics' tables AppEvents, AppRequests and AppMetrics.

Names and types are those of the published table references of Azure Monitor (a subset: what we can fill). The two
dynamic columns, Properties and Measurements, are JSON text here; KQL's ``parse_json`` reads both.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from stk_ml.telemetry.packing import json
from stk_ml.telemetry.protocol import Batch, Event, Metric, Request

Table = Literal["AppEvents", "AppRequests", "AppMetrics"]
TABLES: tuple[Table, ...] = ("AppEvents", "AppRequests", "AppMetrics")

_COMMON = {
    "TimeGenerated": "datetime",
    "Name": "string",
    "Properties": "dynamic",
    "OperationId": "string",
    "AppRoleName": "string",
    "AppRoleInstance": "string",
    "AppVersion": "string",
    "ItemCount": "int",
    "Type": "string",
    "_ResourceId": "string",
}
#: Columns of each table and their KQL types.
COLUMNS: Mapping[Table, Mapping[str, str]] = {
    "AppEvents": {**_COMMON, "Measurements": "dynamic"},
    "AppRequests": {
        **_COMMON,
        "Id": "string",
        "Url": "string",
        "Success": "bool",
        "ResultCode": "string",
        "DurationMs": "real",
        "Measurements": "dynamic",
    },
    "AppMetrics": {**_COMMON, "Sum": "real", "Min": "real", "Max": "real"},
}


def rows(batch: Batch) -> dict[Table, list[dict[str, Any]]]:
    """The rows of a batch by table; TimeGenerated is in unix microseconds.

    Example:
        >>> batch = Batch(metrics=(Metric(1.5, "stk.requests", 3.0, 1.0, 2.0, 2, {"endpoint": "eta"}),))
        >>> row = rows(batch)["AppMetrics"][0]
        >>> row["TimeGenerated"], row["AppRoleName"], row["Sum"], row["ItemCount"], row["Properties"]
        (1500000, 'eta', 3.0, 2, '{"endpoint":"eta"}')
    """
    return {
        "AppEvents": [_event(event) for event in batch.events],
        "AppRequests": [_request(request) for request in batch.requests],
        "AppMetrics": [_metric(metric) for metric in batch.metrics],
    }


def microseconds(seconds: float) -> int:
    """Unix seconds in whole microseconds, as the tables hold them."""
    return round(seconds * 1e6)


def _common(row: Event | Request | Metric, table: Table, operation_id: str = "", count: int = 1) -> dict[str, Any]:
    return {
        "TimeGenerated": microseconds(row.time),
        "Name": row.name,
        "Properties": json(dict(row.properties)),
        "OperationId": operation_id,
        "AppRoleName": row.properties.get("endpoint", ""),
        "AppRoleInstance": row.properties.get("worker", ""),
        "AppVersion": row.properties.get("version", ""),
        "ItemCount": count,
        "Type": table,
        "_ResourceId": "",
    }


def _event(event: Event) -> dict[str, Any]:
    return {**_common(event, "AppEvents", event.operation_id), "Measurements": json(dict(event.measurements))}


def _request(request: Request) -> dict[str, Any]:
    return {
        **_common(request, "AppRequests", request.id),
        "Id": request.id,
        "Url": request.name,
        "Success": request.success,
        "ResultCode": request.result_code,
        "DurationMs": request.duration,
        "Measurements": "{}",
    }


def _metric(metric: Metric) -> dict[str, Any]:
    return {
        **_common(metric, "AppMetrics", count=metric.count),
        "Sum": metric.sum,
        "Min": metric.min,
        "Max": metric.max,
    }
