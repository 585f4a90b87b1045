"""scikit-learn estimators as skops files: read only under our own allow-list; equal estimators give equal bytes.

skops names each object by its address in memory and dates its archive, so its bytes differ from run to run;
:func:`dumps` renames both.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from stk_ml.artifact.trusted import LOADERS, TYPES
from stk_ml.errors import ArtifactError, UntrustedTypeError

_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)


def dumps(estimator: Any) -> bytes:
    """The skops file of an estimator.

    Raises:
        UntrustedTypeError: it holds a type that :func:`loads` would refuse.
        ArtifactError: it holds something that skops cannot write.
    """
    import skops.io

    try:
        content = skops.io.dumps(estimator)
    except Exception as error:  # skops raises whatever the object's own methods raise
        raise ArtifactError(f"{type(estimator).__name__} cannot be saved without pickle: {error}") from error
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        _check(schema)
        return _rewrite(schema, {name: archive.read(name) for name in archive.namelist() if name != _SCHEMA})


def loads(content: bytes) -> Any:
    """The estimator of a skops file. The file's own list of types counts for nothing.

    Raises:
        UntrustedTypeError: it names a type or a way of loading outside our allow-list; nothing of it is built.
        ArtifactError: it is no skops file.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            schema = json.loads(archive.read(_SCHEMA))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ArtifactError(f"not a skops file: {error}") from error
    _check(schema)
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        return skops.io.loads(content, trusted=sorted(TYPES))
    except UntrustedTypesFoundException as error:
        raise UntrustedTypeError(f"the model holds a type outside the allow-list: {error}") from error


def _check(schema: Any) -> None:
    refused = {
        name
        for node in _nodes(schema)
        for name, allowed in ((_type(node), TYPES), (str(node.get("__loader__")), LOADERS))
        if name not in allowed
    }
    if refused:
        raise UntrustedTypeError(
            f"the model holds what is outside the allow-list: {', '.join(sorted(refused))}",
            hint="use estimators of scikit-learn, or learner.estimator: lightgbm",
        )


def _type(node: dict[str, Any]) -> str:
    return f"{node.get('__module__')}.{node.get('__class__')}"


def _nodes(part: Any) -> Iterator[dict[str, Any]]:
    """Every object of a skops schema, outermost first."""
    if isinstance(part, dict):
        if "__class__" in part or "__module__" in part or "__loader__" in part:
            yield part
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from _nodes(inner)


def _rewrite(schema: Any, files: dict[str, bytes]) -> bytes:
    """The archive with objects numbered by first mention, files named so too, fixed dates and clean array padding."""
    numbers: dict[Any, int] = {}
    renamed: dict[str, str] = {}
    for node in _nodes(schema):
        # A literal is shared or not as the interpreter pleases; each gets its own number.
        literal = node.get("__loader__") in ("JsonNode", "TypeNode")
        if "__id__" in node:
            node["__id__"] = numbers.setdefault(len(numbers) if literal else f"object {node['__id__']}", len(numbers))
        if isinstance(node.get("file"), str):
            node["file"] = renamed.setdefault(node["file"], f"{len(renamed)}.{node['file'].rpartition('.')[2]}")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for old, new in renamed.items():
            archive.writestr(zipfile.ZipInfo(new, _EPOCH), _clean(files[old]), zipfile.ZIP_DEFLATED)
        archive.writestr(zipfile.ZipInfo(_SCHEMA, _EPOCH), json.dumps(schema), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _clean(content: bytes) -> bytes:
    """An .npy file with zeros between the fields of its records (trees), where memory holds whatever was there."""
    if not content.startswith(b"\x93NUMPY"):
        return content
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if array.dtype.names is None:
        return content
    clean = np.zeros(array.shape, array.dtype)
    for name in array.dtype.names:
        clean[name] = array[name]
    buffer = io.BytesIO()
    np.save(buffer, clean, allow_pickle=False)
    return buffer.getvalue()
