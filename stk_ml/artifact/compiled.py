"""A LightGBM model through ``quickscorer.c``: compiled once per machine, not per model; optional.

:func:`build` compiles the source of this package where a C compiler is there (a tenth of a second); :func:`load` makes
a model ready (a twentieth) and gives it out only when its scores equal LightGBM's on every row tried. Whatever is
missing or odd, the answer is None and LightGBM scores. The library is native code, so it is loaded only from a folder
that is the user's own and closed to others, never from a model; and only while its sha256 is what build wrote beside
it, because a library that the disk has damaged kills the process that loads it.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib.machinery
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
from collections.abc import Sequence
from ctypes import POINTER, c_double, c_int32, c_int64, c_void_p
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stk_ml.artifact import quickscorer
from stk_ml.artifact.native import NativeBooster, address, checked
from stk_ml.artifact.quickscorer import FeatureMasks, Masks

Array = npt.NDArray[np.float64]

_SOURCE = Path(__file__).with_name("quickscorer.c")
# No -march: a cache may be shared by machines, and SSE2 measured no slower than AVX. No contraction: equal scores.
_FLAGS = ("-O3", "-shared", "-fPIC", "-std=c99", "-ffp-contract=off")
_COMPILERS = ("cc", "gcc", "clang")
_SECONDS = 60
_TRIED = 512

_LOG = logging.getLogger(__name__)


class _Feature(ctypes.Structure):
    """``struct stk_feature``."""

    _fields_ = (
        *((name, c_int32) for name in ("column", "categorical", "count", "stride")),
        *((name, c_void_p) for name in ("threshold", "word", "mask", "rows")),
    )


class _Model(ctypes.Structure):
    """``struct stk_model``."""

    _fields_ = (
        *((name, c_int32) for name in ("features", "trees", "words", "link")),
        ("slope", c_double),
        ("feature", POINTER(_Feature)),
        ("first", c_void_p),
        ("leaf", c_void_p),
    )


class CompiledBooster:
    """A model that scores as LightGBM does, several times as fast, on one thread per call.

    Args:
        file: the library that :func:`build` made.
        masks: the model.

    Attributes:
        features: number of columns that it takes.
    """

    def __init__(self, file: Path, masks: Masks) -> None:
        self.features, self._file, self._masks = masks.columns, file, masks
        self._many = ctypes.CDLL(str(file)).stk_score_many
        self._many.restype = None
        self._model = _Model(
            len(masks.features), len(masks.first), masks.words, masks.link, masks.slope,
            (_Feature * len(masks.features))(*map(_feature, masks.features)),
            address(masks.first), address(masks.leaf),
        )  # fmt: skip
        self._row: CompiledRowScorer | None = None

    def row_scorer(self) -> CompiledRowScorer:
        """What scores one row at a time, for one thread."""
        return CompiledRowScorer(self)

    def single(self, row: npt.ArrayLike) -> float:
        """The score of one row (features,). For one thread at a time; see :meth:`row_scorer` for the quick way."""
        if self._row is None:
            self._row = self.row_scorer()
        self._row.buffer[:] = row
        return self._row.score()

    def many(self, matrix: Array, *, out: Array | None = None) -> Array:
        """The score of each row of a (rows, features) matrix, into ``out`` or a new array; from any thread."""
        matrix, scores = checked(matrix, out, self.features)
        left = np.empty(self._masks.words, dtype=np.uint32)
        self._many(
            ctypes.byref(self._model), address(matrix), c_int64(len(matrix)), c_int64(self.features),
            address(left), address(scores),
        )  # fmt: skip
        return scores


class CompiledRowScorer:
    """Scores the row that its buffer holds; for one thread.

    Attributes:
        buffer: float64 (features,), filled in place by whoever decodes a row.
    """

    __slots__ = ("_booster", "_call", "_left", "_model", "_room", "_row", "buffer")

    def __init__(self, booster: CompiledBooster) -> None:
        self.buffer, self._room = np.zeros(booster.features), np.empty(booster._masks.words, dtype=np.uint32)
        self._booster, self._model = booster, ctypes.pointer(booster._model)
        self._row, self._left = address(self.buffer), address(self._room)
        # Through PyDLL the call keeps the GIL: to let it go for 3 us costs up to 5 ms when another thread takes it.
        self._call = ctypes.PyDLL(str(booster._file)).stk_score
        self._call.restype = c_double

    def score(self) -> float:
        """The score of the buffer."""
        return self._call(self._model, self._row, self._left)  # type: ignore[no-any-return]


def _feature(one: FeatureMasks) -> _Feature:
    arrays = address(one.threshold), address(one.word), address(one.mask), address(one.rows)
    return _Feature(one.column, one.categorical, one.count, one.stride, *arrays)


def build(cache: Path) -> Path | None:
    """Compiles the scorer, unless it is there already.

    Args:
        cache: a folder of the user's own, made with mode 700 when it is not there.

    Returns:
        The library; None where there is no C compiler (``CC``, cc, gcc or clang), it fails, or the folder is not the
        user's own and closed to others. The log says why.
    """
    file = cache / _name()
    if _trusted(file) and _whole(file):
        return file
    compiler = _compiler()
    aside, digest_aside = (path.with_name(f".{path.name}.{os.getpid()}.tmp") for path in (file, _digest_file(file)))
    try:
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        if compiler is None or not _closed(cache):
            why = "there is no C compiler" if compiler is None else f"{cache} is not yours alone (mode 700)"
            _LOG.info("models are scored by LightGBM: %s", why)
            return None
        command = [*compiler, *_FLAGS, str(_SOURCE), "-o", str(aside), "-lm"]
        subprocess.run(command, check=True, capture_output=True, timeout=_SECONDS)  # noqa: S603
        aside.chmod(0o500)
        digest_aside.write_text(_digest(aside), "ascii")
        for path, name in ((aside, file), (digest_aside, _digest_file(file))):
            with path.open("rb") as written:
                os.fsync(written.fileno())
            path.replace(name)
    except (OSError, subprocess.SubprocessError) as error:
        told = getattr(error, "stderr", None) or str(error).encode()
        _LOG.warning("models are scored by LightGBM: compiling failed: %s", told.decode(errors="replace").strip())
        return None
    finally:
        for path in (aside, digest_aside):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    return file


def load(
    text: str, cache: Path, *, booster: NativeBooster | None = None, rows: Array | None = None
) -> CompiledBooster | None:
    """A model, if :func:`build` has been here and its scores equal LightGBM's, bit by bit.

    Args:
        text: LightGBM's text format.
        cache: the folder that :func:`build` was given.
        booster: the same model, to compare with; default it is read again.
        rows: (rows, features) to compare on beside those made up: thresholds and their neighbours, NaN, -1, infinity,
            every category and one more.

    Returns:
        None when there is no trusted and undamaged library, the model has what is left to LightGBM, or a score differs.
    """
    file = cache / _name()
    if not _trusted(file):
        return None
    if not _whole(file):
        _LOG.warning("this model is scored by LightGBM: %s differs from its sha256", file)
        return None
    try:
        masks = quickscorer.read(text)
        compiled = CompiledBooster(file, masks)
    except (quickscorer.UnsupportedModelError, OSError, AttributeError) as error:  # the last: another library
        _LOG.info("this model is scored by LightGBM: %s", error)
        return None
    matrices = [_made_up(masks)] if rows is None else [_made_up(masks), rows]
    if not _equal(compiled, booster or NativeBooster(text), matrices):
        _LOG.warning("this model is scored by LightGBM: the compiled scores differ from its own")
        return None
    return compiled


def _equal(compiled: CompiledBooster, booster: NativeBooster, matrices: Sequence[Array]) -> bool:
    if compiled.features != booster.features:
        return False
    return all(compiled.many(matrix).tobytes() == booster.many(matrix).tobytes() for matrix in matrices)


def _made_up(masks: Masks, rows: int = _TRIED) -> Array:
    """Rows where scores would differ if they could: each column has values from both sides of its own splits."""
    random = np.random.default_rng(0)
    odd = [np.nan, np.nan, -1.0, -0.5, 0.0, -0.0, 1e-36, -1e-36, 1.0, 1e18, -1e18, 2.0**31, np.inf, -np.inf]
    matrix = random.choice(odd, size=(rows, masks.columns))
    for one in masks.features:
        own = np.arange(one.count + 2.0) if one.categorical else _around(one.threshold)
        usual = random.random(rows) < 0.9
        matrix[usual, one.column] = random.choice(own, size=int(usual.sum()))
    return matrix


def _around(threshold: Array) -> Array:
    return np.concatenate([threshold, np.nextafter(threshold, np.inf), np.nextafter(threshold, -np.inf)])


def _name() -> str:
    """Of the library: by what it is made from, and for which kind of machine."""
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    made_from = (_SOURCE.read_bytes(), " ".join(_FLAGS).encode(), f"{platform.machine()} {suffix}".encode())
    return f"quickscorer-{hashlib.sha256(b'|'.join(made_from)).hexdigest()[:32]}.so"


def _compiler() -> list[str] | None:
    named = shlex.split(os.environ.get("CC", ""))
    found = shutil.which(named[0]) if named else next(filter(None, map(shutil.which, _COMPILERS)), None)
    return [found, *named[1:]] if found else None


def _trusted(file: Path) -> bool:
    """Whether a library is the user's own plain file, in a folder that only the user can change."""
    try:
        status = file.lstat()
    except OSError:
        return False
    return (
        stat.S_ISREG(status.st_mode)
        and status.st_uid == _user()
        and not status.st_mode & 0o022
        and _closed(file.parent)
    )


def _whole(file: Path) -> bool:
    """Whether a library is still what was compiled."""
    try:
        return _digest(file) == _digest_file(file).read_text("ascii")
    except (OSError, UnicodeDecodeError):
        return False


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _digest_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.sha256")


def _closed(folder: Path) -> bool:
    status = folder.lstat()
    return stat.S_ISDIR(status.st_mode) and status.st_uid == _user() and not status.st_mode & 0o077


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else -1
