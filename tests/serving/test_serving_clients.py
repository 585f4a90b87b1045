"""Other projects' clients score against the server: MLflow's for /invocations, Triton's for /v2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pytest
from late_parcels import FEATURES
from scorer_process import Scorer, scorer

from stk_ml.artifact.model import TrainedModel


@pytest.fixture(scope="module")
def open_server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scorer]:
    """A scorer that asks for no credential: MLflow's client sends none."""
    with scorer(tmp_path_factory.mktemp("project"), folder, "--auth", "none", "--no-telemetry") as running:
        yield running


@pytest.fixture(scope="module")
def mlflow_client(open_server: Scorer) -> Any:
    pytest.importorskip("pandas", reason="pip install 'stk-ml[dev]'")
    client = pytest.importorskip("mlflow.pyfunc.scoring_server.client", reason="pip install 'stk-ml[ui]'")
    address = urlsplit(open_server.url)
    found = client.ScoringServerClient(address.hostname, address.port)
    found.wait_server_ready(timeout=10, scoring_server_proc=open_server.process)
    return found


def test_mlflows_client(mlflow_client: Any, model: TrainedModel, table: pa.Table) -> None:
    mlflow_client.ping()
    assert mlflow_client.get_version()
    rows = table.select(FEATURES).drop_null()
    answer = mlflow_client.invoke(rows.to_pandas())
    np.testing.assert_allclose(answer.get_predictions()[0], model.predict(rows), atol=1e-9)
    rows = table.select(FEATURES).slice(0, 20)
    answer = mlflow_client.invoke(rows.to_pylist())
    np.testing.assert_allclose(answer.get_predictions()[0], model.predict(rows), atol=1e-9)
    with pytest.raises(Exception, match="error code 422"):
        mlflow_client.invoke(rows.drop_columns(["km"]).to_pandas().fillna(0))


def test_mlflows_client_sends_a_frame_with_missing_numbers(
    mlflow_client: Any, model: TrainedModel, table: pa.Table
) -> None:
    rows = table.select(FEATURES)
    answer = mlflow_client.invoke(rows.to_pandas())
    np.testing.assert_allclose(answer.get_predictions()[0], model.predict(rows), atol=1e-9)


class Triton:
    """Triton's client, with the key of a server."""

    def __init__(self, server: Scorer) -> None:
        self.http = pytest.importorskip("tritonclient.http", reason="pip install 'stk-ml[dev]'")
        self.client = self.http.InferenceServerClient(server.url.removeprefix("http://"))
        self._headers = server.headers

    @property
    def headers(self) -> dict[str, str]:
        """A copy for each request: the client adds its own to it."""
        return dict(self._headers)

    def inputs(self, rows: pa.Table, *, binary: bool, width: int | None = None) -> list[Any]:
        """One tensor per column, of the shape [rows] or [rows, 1]."""
        found = []
        for name in rows.column_names:
            column = rows.column(name)
            if pa.types.is_string(column.type):
                values, datatype = np.array(column.to_pylist(), dtype=np.object_), "BYTES"
            elif pa.types.is_boolean(column.type):
                values, datatype = np.array(column.to_pylist(), dtype=np.bool_), "BOOL"
            else:
                values = column.to_numpy()
                datatype = {"float64": "FP64", "int64": "INT64"}[str(values.dtype)]
            values = values if width is None else values.reshape(-1, width)
            tensor = self.http.InferInput(name, list(values.shape), datatype)
            tensor.set_data_from_numpy(values, binary_data=binary)
            found.append(tensor)
        return found


@pytest.fixture(scope="module")
def triton(server: Scorer) -> Iterator[Triton]:
    client = Triton(server)
    yield client
    client.client.close()


@pytest.fixture(scope="module")
def rows(table: pa.Table) -> pa.Table:
    """Rows without what tensors have no word for: missing text and booleans."""
    return table.select(FEATURES).drop_null()


def test_tritons_client_asks_how_the_server_is(triton: Triton) -> None:
    client = triton.client
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("late-parcel")
    assert client.is_model_ready("late-parcel", "0")
    assert not client.is_model_ready("no-such-model")
    assert client.get_server_metadata()["name"]
    metadata = client.get_model_metadata("late-parcel", "0")
    assert [tensor["name"] for tensor in metadata["inputs"]] == FEATURES
    assert [(tensor["name"], tensor["datatype"]) for tensor in metadata["outputs"]] == [("score", "FP64")]
    with pytest.raises(triton.http.InferenceServerException, match="not served here"):
        client.get_model_metadata("no-such-model")


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_tritons_client_scores(
    binary_in: bool, binary_out: bool, compression: str | None, triton: Triton, rows: pa.Table, model: TrainedModel
) -> None:
    answer = triton.client.infer(
        "late-parcel",
        triton.inputs(rows, binary=binary_in),
        outputs=[triton.http.InferRequestedOutput("score", binary_data=binary_out)],
        request_id="order-7",
        headers=triton.headers,
        request_compression_algorithm=compression,
    )
    np.testing.assert_allclose(answer.as_numpy("score"), model.predict(rows), atol=1e-9)
    found = answer.get_response()
    assert (found["id"], found["model_name"], found["model_version"]) == ("order-7", "late-parcel", "0")


def test_tritons_client_scores_columns_of_width_one_by_version_and_missing_numbers(
    triton: Triton, rows: pa.Table, model: TrainedModel
) -> None:
    km = pa.array([None if place % 3 else value for place, value in enumerate(rows.column("km").to_pylist())])
    rows = rows.set_column(0, "km", km)
    inputs = triton.inputs(rows, binary=True, width=1)
    answer = triton.client.infer("late-parcel", inputs, model_version="0", headers=triton.headers)
    np.testing.assert_allclose(answer.as_numpy("score"), model.predict(rows), atol=1e-9)
    waiting = triton.client.async_infer("late-parcel", inputs, headers=triton.headers)
    np.testing.assert_allclose(waiting.get_result().as_numpy("score"), model.predict(rows), atol=1e-9)


def test_tritons_client_is_told_what_is_wrong(triton: Triton, rows: pa.Table) -> None:
    refused = triton.http.InferenceServerException
    inputs = triton.inputs(rows, binary=True)
    with pytest.raises(refused, match="key") as error:
        triton.client.infer("late-parcel", inputs, headers={"x-api-key": "wrong"})
    assert "401" in str(error.value.status())
    with pytest.raises(refused, match="not served here"):
        triton.client.infer("no-such-model", inputs, headers=triton.headers)
    with pytest.raises(refused, match="'km'"):
        triton.client.infer("late-parcel", inputs[1:], headers=triton.headers)
