"""LightGBM without its Python package: the C API of ``lib_lightgbm``, called through ctypes.

``import lightgbm`` takes seconds and 190 MB because it looks for pandas, scikit-learn and others; its library takes
milliseconds and 3 MB. Scores are those of ``lightgbm.Booster.predict``, bit by bit. A category code of -1 and NaN both
go the way of a value that training has not seen (``Tree::CategoricalDecision`` of LightGBM).
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
import weakref
from collections.abc import Callable
from ctypes import byref, c_char_p, c_double, c_int, c_int64, c_void_p, pointer
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from stk_ml.errors import ArtifactError

Array = npt.NDArray[np.float64]

_FLOAT64, _NORMAL, _CONTRIBUTIONS = 1, 0, 3
_ALL = -1
#: Rows that are handed to LightGBM in one call at most; it counts them in 32 bits.
_CALL = 1 << 24


class NativeBooster:
    """A LightGBM model of one output, ready to score.

    Attributes:
        features: number of columns that it takes.

    Example:
        >>> import lightgbm, numpy
        >>> x = numpy.random.default_rng(0).normal(size=(500, 3))
        >>> parameters = {"objective": "binary", "verbose": -1, "num_threads": 1}
        >>> trained = lightgbm.train(parameters, lightgbm.Dataset(x, (x[:, 0] > 0).astype(float)), 10)
        >>> booster = NativeBooster(trained.model_to_string())
        >>> bool((booster.many(x) == trained.predict(x)).all()), booster.single(x[7]) == booster.many(x)[7].item()
        (True, True)
    """

    def __init__(self, text: str, *, name: str = "the text") -> None:
        """Reads LightGBM's text format; ArtifactError, naming ``name``, when it is none or has several outputs."""
        lib = library()
        self._handle = c_void_p()
        if lib.LGBM_BoosterLoadModelFromString(text.encode(), byref(c_int()), byref(self._handle)):
            raise ArtifactError(f"{name} is not a LightGBM model: {_last_error()}")
        weakref.finalize(self, lib.LGBM_BoosterFree, self._handle)
        classes = self._count(lib.LGBM_BoosterGetNumClasses)
        if classes != 1:
            raise ArtifactError(f"{name} is a model of {classes} classes; models of one output are scored")
        self.features = self._count(lib.LGBM_BoosterGetNumFeature)
        self._row: RowScorer | None = None

    @classmethod
    def read(cls, file: Path) -> NativeBooster:
        """The model of a text file; ArtifactError when it cannot be read or is none."""
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{file} cannot be read: {error}") from error
        return cls(text, name=str(file))

    def row_scorer(self) -> RowScorer:
        """What scores one row at a time, for one thread."""
        return RowScorer(self)

    def single(self, row: npt.ArrayLike) -> float:
        """The score of one row (features,). For one thread at a time; see :meth:`row_scorer` for the quick way."""
        if self._row is None:
            self._row = self.row_scorer()
        self._row.buffer[:] = row
        return self._row.score()

    def many(self, matrix: Array, *, out: Array | None = None, threads: int = 1) -> Array:
        """The score of each row. Other Python threads run meanwhile.

        Args:
            matrix: (rows, features); copied unless it is float64 in C order.
            out: where the scores go, (rows,) of float64; default a new array.
            threads: OpenMP's; 0 for all cores.
        """
        matrix, scores = checked(matrix, out, self.features)
        for start in range(0, len(matrix), _CALL):
            self._predict(_NORMAL, matrix[start : start + _CALL], scores[start : start + _CALL], threads)
        return scores

    def contributions(self, matrix: Array, *, threads: int = 1) -> Array:
        """SHAP values (rows, features + 1), the last column being the expected value; TreeSHAP of LightGBM."""
        matrix, _ = checked(matrix, None, self.features)
        values = np.empty((len(matrix), self.features + 1))
        for start in range(0, len(matrix), _CALL):
            self._predict(_CONTRIBUTIONS, matrix[start : start + _CALL], values[start : start + _CALL], threads)
        return values

    def _predict(self, kind: int, matrix: Array, out: Array, threads: int) -> None:
        code = library().LGBM_BoosterPredictForMat(
            self._handle, address(matrix), _FLOAT64, len(matrix), self.features, 1, kind, 0, _ALL,
            _parameters(threads), byref(c_int64()), address(out),
        )  # fmt: skip
        if code:
            raise ArtifactError(f"LightGBM cannot score {len(matrix)} rows: {_last_error()}")

    def _count(self, function: Callable[..., int]) -> int:
        number = c_int()
        if function(self._handle, byref(number)):
            raise ArtifactError(f"LightGBM cannot describe the model: {_last_error()}")
        return number.value


class RowScorer:
    """Scores the row that its buffer holds; for one thread.

    Attributes:
        buffer: float64 (features,), filled in place by whoever decodes a row.
    """

    __slots__ = ("__weakref__", "_booster", "_call", "_config", "_length", "_out", "_result", "_row", "buffer")

    def __init__(self, booster: NativeBooster) -> None:
        # Through PyDLL the call keeps the GIL: to let it go for 16 us costs up to 5 ms when another thread takes it.
        lib, self._booster, self._config = ctypes.PyDLL(library()._name), booster, c_void_p()
        if lib.LGBM_BoosterPredictForMatSingleRowFastInit(
            booster._handle, _NORMAL, 0, _ALL, _FLOAT64, booster.features, _parameters(1), byref(self._config)
        ):
            raise ArtifactError(f"LightGBM cannot score single rows: {_last_error()}")
        weakref.finalize(self, library().LGBM_FastConfigFree, self._config)
        self.buffer, self._result = np.zeros(booster.features), c_double()
        self._row, self._length, self._out = address(self.buffer), pointer(c_int64()), pointer(self._result)
        self._call = lib.LGBM_BoosterPredictForMatSingleRowFast

    def score(self) -> float:
        """The score of the buffer."""
        if self._call(self._config, self._row, self._length, self._out):
            raise ArtifactError(f"LightGBM cannot score a row: {_last_error()}")
        return self._result.value


def checked(matrix: Array, out: Array | None, features: int) -> tuple[Array, Array]:
    """A matrix as C reads it, and where its scores go; ValueError when either has another shape or type."""
    matrix = np.ascontiguousarray(matrix, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[1] != features:
        raise ValueError(f"the model takes (rows, {features}), not an array of shape {matrix.shape}")
    scores = np.empty(len(matrix)) if out is None else out
    if scores.shape != (len(matrix),) or scores.dtype != np.float64 or not scores.flags.c_contiguous:
        raise ValueError(f"out must be float64 of shape ({len(matrix)},), contiguous")
    return matrix, scores


def address(array: npt.NDArray[Any]) -> c_void_p:
    """Where an array's data begins, for C; the array must outlive it."""
    return c_void_p(array.ctypes.data)


@cache
def library() -> ctypes.CDLL:
    """LightGBM's library, found beside its Python package, which is not imported.

    Raises:
        ArtifactError: it is not installed, or the system lacks OpenMP.
    """
    for folder in _folders():
        for name in ("lib_lightgbm.so", "lib_lightgbm.dylib", "lib_lightgbm.dll"):
            if (folder / name).is_file():
                try:
                    lib = ctypes.CDLL(str(folder / name))
                except OSError as error:
                    raise ArtifactError(
                        f"{folder / name} cannot be loaded: {error}",
                        hint="install OpenMP: libgomp1 (Debian), libomp (macOS)",
                    ) from error
                lib.LGBM_GetLastError.restype = c_char_p
                return lib
    raise ArtifactError("the library of LightGBM is not installed", hint="pip install lightgbm")


def _folders() -> list[Path]:
    spec = importlib.util.find_spec("lightgbm")
    homes = [Path(home) for home in (spec.submodule_search_locations or ())] if spec else []
    return [*(home / part for home in homes for part in ("lib", "bin", ".")), Path(sys.prefix) / "lib"]


def _parameters(threads: int) -> bytes:
    return b"num_threads=%d" % threads


def _last_error() -> str:
    return bytes(library().LGBM_GetLastError()).decode(errors="replace").strip()
