from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stk_ml import declarations
from stk_ml.errors import DeclarationError


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    margin: float = 0.0


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    gate: Inner | None = None
    items: tuple[Inner, ...] = ()


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("name: a\ngate:\n  margn: 1\n", 3, "unknown key 'margn' in gate", "did you mean 'margin'?"),
        ("\ngate: {margin: 1}\n", 2, "the key 'name' is missing", "add name: ..."),
        ("name: a\ngate:\n  margin: much\n", 3, "gate.margin: expected `float`, got `str`", ""),
        ("name: a\nitems:\n  - margin: 1\n  - margin: x\n", 4, "items.1.margin: expected `float`", ""),
        ("name: a\nitems:\n  - marg: 1\n", 3, "unknown key 'marg'", ""),
        ("name: 3\n", 1, "name: expected `str`, got `int`", ""),
        ("- a\n", 1, "expected `object`, got `array`", ""),
        ("name: a\n\nname: b\n", 3, "the key 'name' stands twice", "keep one"),
        ("name: [\n", 2, "not valid YAML", ""),
        ("name: a\n\tb: c\n", 2, "not valid YAML", ""),
        ("", 1, "is empty", ""),
        ("name: !!python/object:os.system x\n", 1, "not valid YAML", ""),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, message: str, hint: str, tmp_path: Path) -> None:
    file = tmp_path / "m.yml"
    file.write_text(text)
    with pytest.raises(DeclarationError) as caught:
        declarations.decode(declarations.read(file, shown="m.yml"), Outer)
    assert str(caught.value).startswith(f"m.yml:{line}: ")
    assert message in str(caught.value)
    assert hint in caught.value.hint


def test_dates_and_the_key_on_stay_text() -> None:
    declared = declarations.parse("on: 2013-06-01\nyes: no\nflag: true\n", file="m.yml")
    assert declared.data == {"on": "2013-06-01", "yes": "no", "flag": True}


def test_a_file_that_is_missing_or_binary(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="no such file"):
        declarations.read(tmp_path / "none.yml")
    (tmp_path / "b.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DeclarationError, match="cannot be read"):
        declarations.read(tmp_path / "b.yml")
