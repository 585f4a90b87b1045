"""Reads declared YAML files so that every mistake is told with its line and a hint.

A file is parsed once into plain data plus the line of each key; :func:`decode` turns the data into a typed
``msgspec.Struct`` and points at the line that the failure is about.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from stk_ml.errors import DeclarationError, closest

T = TypeVar("T")
Key = tuple[str | int, ...]


@dataclass(frozen=True)
class Declared:
    r"""Plain data of one YAML document and where each part of it stands.

    Attributes:
        data: the document as dicts, lists and scalars.
        lines: 1-based line of every key path, e.g. ``("gate", "margin") -> 12``.
        file: where it was read from, as shown in errors.

    Example:
        >>> declared = parse("name: a\ngate:\n  margin: 0.1\n", file="m.yml")
        >>> declared.line(("gate", "margin")), declared.data["gate"]
        (3, {'margin': 0.1})
    """

    data: Any
    lines: Mapping[Key, int]
    file: str

    def line(self, path: Key) -> int | None:
        """The line of ``path``, or of its nearest parent that has one."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def error(self, message: str, path: Key = (), *, hint: str = "") -> DeclarationError:
        """A :class:`DeclarationError` that points at ``path``."""
        return DeclarationError(message, file=self.file, line=self.line(path), hint=hint)


def read(file: str | Path, *, shown: str | None = None) -> Declared:
    """Parses a YAML file.

    Args:
        file: the file.
        shown: its name in errors; default the path as given.

    Raises:
        DeclarationError: it cannot be read, is not UTF-8 or not YAML, is empty, or names a key twice.
    """
    try:
        text = Path(file).read_text("utf-8")
    except FileNotFoundError as error:
        raise DeclarationError("no such file", file=shown or file) from error
    except (OSError, UnicodeDecodeError) as error:
        raise DeclarationError(f"cannot be read: {error}", file=shown or file) from error
    return parse(text, file=shown or str(file))


def parse(text: str, *, file: str, offset: int = 0) -> Declared:
    """Parses YAML text; ``offset`` is added to every line number (for YAML inside another file)."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            raise DeclarationError("is empty", file=file, line=1)
        lines: dict[Key, int] = {}
        _walk(node, (), lines, file, offset)
        return Declared(loader.construct_document(node), lines, file)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 + offset if mark else None
        raise DeclarationError(f"not valid YAML: {error.problem}", file=file, line=line) from error
    except yaml.YAMLError as error:
        raise DeclarationError(f"not valid YAML: {error}", file=file) from error
    finally:
        loader.dispose()


def decode(declared: Declared, into: type[T], *, data: Any = None, at: Key = ()) -> T:
    """Turns declared data into ``into``, a ``msgspec.Struct`` or any type that msgspec converts to.

    Args:
        declared: the parsed file.
        into: what to build.
        data: the part of the document to convert; default the whole.
        at: where ``data`` stands in the document.

    Raises:
        DeclarationError: with the line and, for an unknown key, the closest known one.
    """
    try:
        return msgspec.convert(declared.data if data is None else data, into, strict=True)
    except msgspec.ValidationError as error:
        message, path = _located(str(error))
        unknown = re.search(r"unknown field `([^`]+)`", message)
        if unknown:
            known = _fields(into, path)
            where = (*at, *path, unknown[1])
            raise declared.error(
                f"unknown key {unknown[1]!r}{_inside(path)}", where, hint=closest(unknown[1], known)
            ) from error
        missing = re.search(r"missing required field `([^`]+)`", message)
        if missing:
            raise declared.error(
                f"the key {missing[1]!r} is missing{_inside(path)}", (*at, *path), hint=f"add {missing[1]}: ..."
            ) from error
        raise declared.error(f"{_named(path)}{message[0].lower()}{message[1:]}", (*at, *path)) from error


class _Loader(yaml.SafeLoader):
    """YAML as people read it: dates stay text, to be checked with their line; only true and false are booleans."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, pattern)
        for tag, pattern in resolvers
        if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool")
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def _walk(node: yaml.Node, path: Key, lines: dict[Key, int], file: str, offset: int) -> None:
    lines.setdefault(path, node.start_mark.line + 1 + offset)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            if here in lines:
                raise DeclarationError(
                    f"the key {key.value!r} stands twice",
                    file=file,
                    line=key.start_mark.line + 1 + offset,
                    hint="keep one of them",
                )
            lines[here] = key.start_mark.line + 1 + offset
            _walk(value, here, lines, file, offset)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*path, index), lines, file, offset)


def _located(text: str) -> tuple[str, Key]:
    """Splits msgspec's ``message - at `$.a[0].b``` into the message and its path."""
    found = re.match(r"^(.*?)(?: - at `(?:key` in `)?\$(.*)`)?$", text, re.S)
    if found is None:
        return text, ()
    parts = re.findall(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]", found[2] or "")
    return found[1], tuple(name or (int(index) if index.isdigit() else index) for name, index in parts)


def _fields(kind: Any, path: Key) -> list[str]:
    """Names of the keys that are allowed at ``path`` of ``kind``."""
    for part in path:
        inner = _struct(kind)
        if inner is None or not isinstance(part, str):
            return []
        kind = next((f.type for f in msgspec.structs.fields(inner) if f.encode_name == part), None)
    inner = _struct(kind)
    return [field.encode_name for field in msgspec.structs.fields(inner)] if inner else []


def _struct(kind: Any) -> type[msgspec.Struct] | None:
    candidates = [kind, *getattr(kind, "__args__", ())]
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, msgspec.Struct)), None)


def _inside(path: Key) -> str:
    return f" in {'.'.join(map(str, path))}" if path else ""


def _named(path: Key) -> str:
    return f"{'.'.join(map(str, path))}: " if path else ""
