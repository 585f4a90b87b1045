"""What every running scorer must do, whoever started it: a local process, a container, an endpoint.

Each check takes the address, the headers that let a caller in (empty when everyone may call) and the folder of the
model, and fails with an AssertionError. Only the standard library speaks to the server.
"""

from __future__ import annotations

import csv
import gzip
import http.client
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stk_ml.artifact.golden import Golden

TOLERANCE = 1e-9
JSON = "application/json"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"].split(";")[0] == JSON, self
        return json.loads(self.body)


def ask(
    base_url: str,
    method: str,
    path: str,
    body: bytes | Any = None,
    headers: Mapping[str, str] = {},
    content_type: str = JSON,
) -> Answer:
    """Sends one request on a connection of its own; what is not bytes is sent as JSON."""
    address = urlsplit(base_url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=30)
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    typed = {"content-type": content_type} if sent is not None and content_type else {}
    try:
        connection.request(method, address.path.rstrip("/") + path, sent, {**typed, **headers})
        answer = connection.getresponse()
        content = answer.read()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)
    finally:
        connection.close()


def records(folder: Path) -> list[dict[str, Any]]:
    return [dict(record) for record in Golden.load(folder).records]


def columns(folder: Path) -> list[str]:
    """The model's columns in its order."""
    return [field["name"] for field in json.loads((folder / "model.json").read_text())["schema"]["fields"]]


def types(folder: Path) -> dict[str, str]:
    return {
        field["name"]: field["type"] for field in json.loads((folder / "model.json").read_text())["schema"]["fields"]
    }


def assert_scores(answer: Answer, expected: Sequence[float]) -> dict[str, Any]:
    assert answer.status == 200, answer
    found: dict[str, Any] = answer.json
    assert len(found["predictions"]) == len(expected)
    difference = max(abs(a - b) for a, b in zip(found["predictions"], expected, strict=True))
    assert difference <= TOLERANCE, f"scores differ by up to {difference:g}"
    return found


def assert_error(answer: Answer, status: int) -> dict[str, Any]:
    assert answer.status == status, answer
    error: dict[str, Any] = answer.json["error"]
    if isinstance(error, str):  # the Open Inference Protocol has its errors as text
        error = {**answer.json, "message": error}
    assert error["message"]
    assert error["request_id"] == answer.headers["x-request-id"]
    assert {"type", "message", "hint", "request_id"} <= error.keys()
    assert "Traceback" not in answer.body.decode()
    return error


# Health and description ---------------------------------------------------------------------------------------------


def it_is_live_and_ready(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """Health is open to everyone and names what is served."""
    for prefix in ("", "/v2"):
        assert ask(base_url, "GET", f"{prefix}/health/live").json["status"] == "live"
        ready = ask(base_url, "GET", f"{prefix}/health/ready")
        assert ready.status == 200
        assert ready.json["status"] == "ready"
    digest = json.loads((folder / "manifest.json").read_text())["digest"]
    assert digest in {deployment["digest"] for deployment in ready.json["deployments"]}
    assert ask(base_url, "GET", "/ping").status == 200
    assert ask(base_url, "GET", "/health").status == 200
    assert ask(base_url, "GET", "/version").status == 200


def openapi_lists_the_routes(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """The document names every route and the model's columns."""
    found = ask(base_url, "GET", "/openapi.json").json
    assert {
        *("/score", "/invocations", "/ping", "/version", "/health/live", "/health/ready"),
        *("/v2", "/v2/models/{model_name}", "/v2/models/{model_name}/infer", "/v2/health/ready"),
    } <= found["paths"].keys()
    assert set(found["components"]["schemas"]["Record"]["properties"]) == set(columns(folder))
    assert b"openapi.json" in ask(base_url, "GET", "/docs").body


# Scores -------------------------------------------------------------------------------------------------------------


def golden_rows_score_as_stored(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """All at once, and each by itself."""
    golden = Golden.load(folder)
    found = assert_scores(ask(base_url, "POST", "/score", records(folder), headers), golden.scores)
    assert found["model"]["digest"] == json.loads((folder / "manifest.json").read_text())["digest"]
    for record, score in zip(records(folder), golden.scores, strict=True):
        assert_scores(ask(base_url, "POST", "/score", [record], headers), [score])


def every_shape_of_json_gives_the_same_scores(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """Ours, MLflow's, Azure ML's."""
    rows, names = records(folder), columns(folder)
    matrix = [[row[name] for name in names] for row in rows]
    by_column = {name: [row[name] for row in rows] for name in names}
    by_row = {name: {str(place): row[name] for place, row in enumerate(rows)} for name in names}
    turned = [list(reversed(row)) for row in matrix]
    shapes: list[Any] = [
        rows,
        matrix,
        by_column,
        {"data": rows},
        {"data": rows, "ids": [f"row {place}" for place in range(len(rows))]},
        {"data": by_column},
        {"dataframe_split": {"columns": names, "data": matrix}},
        {"dataframe_split": {"columns": names[::-1], "data": turned, "index": list(range(len(rows)))}},
        {"dataframe_records": rows},
        {"instances": rows},
        {"instances": matrix},
        {"inputs": by_column},
        {"inputs": by_row},
        {"input_data": {"columns": names, "data": matrix}},
        [{name: row[name] for name in sorted(names, reverse=True)} for row in rows],
    ]
    scores = Golden.load(folder).scores
    for path in ("/score", "/invocations"):
        for shape in shapes:
            assert_scores(ask(base_url, "POST", path, shape, headers), scores)
        assert_scores(ask(base_url, "POST", path, rows[0], headers), scores[:1])


def csv_gives_the_same_scores(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """With an empty field for what is missing, and columns in any order."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(folder)[::-1], lineterminator="\r\n")
    writer.writeheader()
    for row in records(folder):
        writer.writerow({name: str(v).lower() if isinstance(v, bool) else v for name, v in row.items()})
    for content_type in ("text/csv", "text/csv; charset=utf-8"):
        answer = ask(base_url, "POST", "/score", text.getvalue().encode(), headers, content_type)
        assert_scores(answer, Golden.load(folder).scores)


def an_arrow_stream_gives_the_same_scores(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """In one batch and in several."""
    import pyarrow as pa

    table = pa.Table.from_pylist(records(folder))
    for size in (len(table), 3):
        sink = io.BytesIO()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=size)
        answer = ask(base_url, "POST", "/score", sink.getvalue(), headers, "application/vnd.apache.arrow.stream")
        assert_scores(answer, Golden.load(folder).scores)


def tensors_give_the_same_scores(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """The Open Inference Protocol in JSON: metadata, ready, infer; with and without a version."""
    rows, kinds = records(folder), types(folder)
    (served,) = {(d["name"], d["version"]) for d in ask(base_url, "GET", "/health/ready").json["deployments"]}
    for path in (f"/v2/models/{served[0]}", f"/v2/models/{served[0]}/versions/{served[1]}"):
        about = ask(base_url, "GET", path).json
        assert about["name"] == served[0]
        assert [tensor["name"] for tensor in about["inputs"]] == columns(folder)
        assert ask(base_url, "GET", f"{path}/ready").status == 200
        datatypes = {tensor["name"]: tensor["datatype"] for tensor in about["inputs"]}
        for shape in ([len(rows)], [len(rows), 1]):
            inputs = [
                {"name": name, "shape": shape, "datatype": datatypes[name], "data": [row[name] for row in rows]}
                for name in kinds
            ]
            answer = ask(base_url, "POST", f"{path}/infer", {"id": "abc", "inputs": inputs}, headers)
            assert answer.status == 200, answer
            (output,) = answer.json["outputs"]
            assert answer.json["id"] == "abc"
            assert output["name"] == "score"
            expected = Golden.load(folder).scores
            assert max(abs(a - b) for a, b in zip(output["data"], expected, strict=True)) <= TOLERANCE
    assert_error(ask(base_url, "GET", "/v2/models/no-such-model"), 404)
    assert isinstance(ask(base_url, "GET", "/v2/models/no-such-model").json["error"], str)
    assert_error(ask(base_url, "POST", "/v2/models/no-such-model/infer", {"inputs": []}, headers), 404)


def explanations_add_up(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """SHAP values and the expected value give the raw score: its log-odds, or itself. LightGBM only."""
    import math

    document = json.loads((folder / "model.json").read_text())
    answer = ask(base_url, "POST", "/score?explain=true", records(folder), headers)
    if document["kind"] != "lightgbm":
        assert 400 <= answer.status < 500
        return
    found = assert_scores(answer, Golden.load(folder).scores)
    for explained, raw in zip(found["explanations"], Golden.load(folder).raw, strict=True):
        assert list(explained["contributions"]) == columns(folder)
        total = explained["expected"] + sum(explained["contributions"].values())
        expected = math.log(raw / (1 - raw)) if document["problem"] == "binary" else raw
        assert abs(total - expected) <= 1e-6 * max(1.0, abs(expected))


def a_compressed_body_is_taken(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """Gzip; and what is not gzip, or of another encoding, is refused."""
    body = gzip.compress(json.dumps(records(folder)).encode())
    packed = {**headers, "content-encoding": "gzip"}
    assert_scores(ask(base_url, "POST", "/score", body, packed), Golden.load(folder).scores)
    assert_error(ask(base_url, "POST", "/score", body[:-20], packed), 400)
    assert_error(ask(base_url, "POST", "/score", b"plain", packed), 400)
    assert_error(ask(base_url, "POST", "/score", body, {**headers, "content-encoding": "rot13"}), 415)


# What surrounds them ------------------------------------------------------------------------------------------------


def the_request_id_is_echoed(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """A good one comes back, in good answers and in bad ones; a bad one is replaced."""
    body = records(folder)[:1]
    for sent in ("a", "Order-7.x_9", "x" * 64):
        answer = ask(base_url, "POST", "/score", body, {**headers, "x-request-id": sent})
        assert answer.headers["x-request-id"] == answer.json["request_id"] == sent
        wrong = ask(base_url, "POST", "/score", b"{", {**headers, "x-request-id": sent})
        assert wrong.headers["x-request-id"] == assert_error(wrong, 400)["request_id"] == sent
    made = set()
    for sent in ("", "x" * 65, "a b", 'a"b', "é"):
        answer = ask(base_url, "POST", "/score", body, {**headers, "x-request-id": sent})
        assert answer.headers["x-request-id"] == answer.json["request_id"] != sent
        made.add(answer.headers["x-request-id"])
    assert len(made) == 5


def answers_have_their_headers(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """Content type, length, deployment; nothing that names the software."""
    answer = ask(base_url, "POST", "/score", records(folder), headers)
    assert answer.headers["content-type"] == JSON
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert answer.headers["azureml-model-deployment"] == answer.json["model"]["deployment"]
    assert "server" not in answer.headers


def nobody_scores_without_a_credential(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """401 without one and with a wrong one, on every route that scores; nothing to do where everyone may call."""
    if not headers:
        return
    wrong = [
        {},
        {"x-api-key": "wrong"},
        {"x-api-key": ""},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer a.b.c"},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": "Bearer"},
    ]
    for path in ("/score", "/invocations", "/v2/models/any/infer"):
        for given in wrong:
            answer = ask(base_url, "POST", path, records(folder), given)
            assert_error(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
    for value in headers.values():
        assert value.encode() not in answer.body


def other_routes_and_methods_are_json_errors(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """404 and 405, with the methods that there are."""
    for path in ("/", "/scores", "/score/", "/v2/models", "/v2/models/a/b/c"):
        answer = ask(base_url, "GET", path, headers=headers)
        if answer.status != 307:
            assert_error(answer, 404)
    for path, allowed in (("/score", "POST"), ("/invocations", "POST"), ("/v2/models/a/infer", "POST")):
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
            answer = ask(base_url, method, path, headers=headers)
            assert_error(answer, 405)
            assert allowed in answer.headers["allow"]
    for path in ("/health/ready", "/ping", "/openapi.json", "/v2"):
        answer = ask(base_url, "POST", path, {}, headers)
        assert_error(answer, 405)
        assert "GET" in answer.headers["allow"]
    head = ask(base_url, "HEAD", "/score", headers=headers)
    assert head.status == 405
    assert head.body == b""
    assert ask(base_url, "HEAD", "/health/live").status in (200, 405)


def other_content_types_are_refused(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """415 names those that are taken."""
    for content_type in (
        "application/xml",
        "text/plain",
        "application/octet-stream",
        "nonsense",
        "multipart/form-data",
    ):
        error = assert_error(ask(base_url, "POST", "/score", b"<a/>", headers, content_type), 415)
        assert JSON in error["message"] + error["hint"]


def broken_bodies_are_refused(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """400 or 422, never 500, and the server goes on."""
    good = json.dumps(records(folder)).encode()
    for body in (
        *(b"", b"{", b"[", b"nul", good[:-1], good + b"]", b"\xff\xfe[]"),
        *(b"\xef\xbb\xbf" + good, good.decode().encode("utf-16"), b'{"data": [], "data": []}', b"[NaN]", b"\x00"),
    ):
        assert_error(ask(base_url, "POST", "/score", body, headers), 400)
    for deep in (b"[" * 100_000, b'{"a":' * 5_000, b"[" * 50_000 + b"]" * 50_000):
        assert ask(base_url, "POST", "/score", deep, headers).status in (400, 413, 422)
    for value in ([], {}, None, 1, "x", [1], [[]], [None], {"data": []}, {"data": [{}]}, {"instances": 1}, [{}]):
        assert_error(ask(base_url, "POST", "/score", json.dumps(value).encode(), headers), 422)
    assert ask(base_url, "POST", "/score", good, headers).status == 200


def wrong_rows_are_named(base_url: str, headers: Mapping[str, str], folder: Path) -> None:
    """422 with row, column and reason; with ``partial=true`` the good rows are scored."""
    rows, scores = records(folder)[:3], Golden.load(folder).scores[:3]
    column = next(name for name, kind in types(folder).items() if kind in ("integer", "number"))
    rows[1] = {**rows[1], column: "far"}
    error = assert_error(ask(base_url, "POST", "/score", rows, headers), 422)
    assert error["total"] == 1
    assert [(problem["row"], problem["column"]) for problem in error["problems"]] == [(1, column)]
    assert error["problems"][0]["reason"]
    found = ask(base_url, "POST", "/score?partial=true", rows, headers).json
    assert found["predictions"][1] is None
    assert abs(found["predictions"][0] - scores[0]) <= TOLERANCE
    assert abs(found["predictions"][2] - scores[2]) <= TOLERANCE
    assert [(problem["row"], problem["column"]) for problem in found["errors"]] == [(1, column)]
    missing = [{name: value for name, value in rows[0].items() if name != column}]
    assert assert_error(ask(base_url, "POST", "/score", missing, headers), 422)["problems"][0]["column"] == column
    extra = [{**rows[0], "no such column": 1}]
    problem = assert_error(ask(base_url, "POST", "/score", extra, headers), 422)["problems"][0]
    assert (problem["row"], problem["column"]) == (0, "no such column")
    assert_error(ask(base_url, "POST", "/score?partial=maybe", rows, headers), 422)


def too_many_rows_are_refused(base_url: str, headers: Mapping[str, str], folder: Path, max_rows: int) -> None:
    """413 above the limit, 200 at it. For a server that was started with this limit."""
    row, score = records(folder)[0], Golden.load(folder).scores[0]
    assert_scores(ask(base_url, "POST", "/score", [row] * max_rows, headers), [score] * max_rows)
    assert_error(ask(base_url, "POST", "/score", [row] * (max_rows + 1), headers), 413)


def too_large_a_body_is_refused(base_url: str, headers: Mapping[str, str], folder: Path, max_body: int) -> None:
    """413, also when it is small until it is decompressed. For a server that was started with this limit."""
    body = b" " * max_body + json.dumps(records(folder)[:1]).encode()
    assert_error(ask(base_url, "POST", "/score", body, headers), 413)
    packed = gzip.compress(body, 9)
    assert len(packed) < max_body
    assert_error(ask(base_url, "POST", "/score", packed, {**headers, "content-encoding": "gzip"}), 413)


Check = Callable[[str, Mapping[str, str], Path], None]
#: All that need no more than the address, the headers and the folder.
CHECKS: tuple[Check, ...] = (
    it_is_live_and_ready,
    openapi_lists_the_routes,
    golden_rows_score_as_stored,
    every_shape_of_json_gives_the_same_scores,
    csv_gives_the_same_scores,
    an_arrow_stream_gives_the_same_scores,
    tensors_give_the_same_scores,
    explanations_add_up,
    a_compressed_body_is_taken,
    the_request_id_is_echoed,
    answers_have_their_headers,
    nobody_scores_without_a_credential,
    other_routes_and_methods_are_json_errors,
    other_content_types_are_refused,
    broken_bodies_are_refused,
    wrong_rows_are_named,
)
