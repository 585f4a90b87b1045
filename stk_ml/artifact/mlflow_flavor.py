"""How MLflow loads a model: ``mlflow.pyfunc.load_model(folder)`` finds this module's name in ``MLmodel``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from stk_ml.artifact.model import TrainedModel
from stk_ml.errors import ColumnContractError


class PyfuncModel:
    """What MLflow calls: ``predict`` of a pandas DataFrame, a matrix, a table, records or columns."""

    def __init__(self, model: TrainedModel) -> None:
        self.model = model

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> npt.NDArray[np.float64]:
        """One calibrated score per row; ``params`` are not used."""
        return self.model.predict(self._rows(data))

    def _rows(self, data: Any) -> Any:
        names = self.model.features
        if isinstance(data, np.ndarray):
            if data.ndim != 2 or data.shape[1] != len(names):
                raise ColumnContractError(f"a matrix of shape {data.shape} for a model of {len(names)} columns")
            return pa.table([pa.array(data[:, place].tolist(), from_pandas=True) for place in range(len(names))], names)
        if isinstance(data, Mapping):
            return pa.table({name: pa.array(np.asarray(column).tolist()) for name, column in data.items()})
        if hasattr(data, "columns") and hasattr(data, "iloc"):
            return pa.Table.from_pandas(data, preserve_index=False)
        return data


def _load_pyfunc(path: str) -> PyfuncModel:
    """MLflow's entry point: the model at ``path``, its seal checked."""
    return PyfuncModel(TrainedModel.load(path))
