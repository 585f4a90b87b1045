"""The expressions of Azure ML YAML: ``${{ }}`` references and ``$[[ ]]`` optional groups.

In a command: ``${{inputs.x}}`` and ``${{outputs.x}}``. In a binding: ``${{parent.inputs.x}}``,
``${{parent.jobs.step.outputs.x}}`` and ``${{parent.outputs.x}}``. A group is dropped as a whole when an optional
input that it names is unset.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.S)
_GROUP = re.compile(r"\$\[\[(.*?)\]\]", re.S)
_KINDS = {
    "input": re.compile(rf"inputs\.(?P<name>{_NAME}(?:\.{_NAME})*)"),
    "output": re.compile(rf"outputs\.(?P<name>{_NAME})"),
    "parent_input": re.compile(rf"parent\.inputs\.(?P<name>{_NAME}(?:\.{_NAME})*)"),
    "parent_output": re.compile(rf"parent\.outputs\.(?P<name>{_NAME})"),
    "step_output": re.compile(rf"parent\.jobs\.(?P<step>{_NAME})\.outputs\.(?P<name>{_NAME})"),
}
#: What a shell reads as more than plain words; a command without any of it can be split into arguments.
_SHELL = re.compile(r"[|&;<>()$`*?~#!{}\[\]\n]|^\s*\w+=")
_SLOT = "\x00{}\x00"


@dataclass(frozen=True)
class Reference:
    """One expression: ``kind`` is input, output, parent_input, parent_output or step_output."""

    kind: str
    name: str
    step: str = ""

    def __str__(self) -> str:
        start = {"input": "inputs.", "output": "outputs.", "parent_input": "parent.inputs."}
        start |= {"parent_output": "parent.outputs.", "step_output": f"parent.jobs.{self.step}.outputs."}
        return "${{" + start[self.kind] + self.name + "}}"


def binding(text: str) -> Reference | None:
    """The reference that a whole text is, or None for plain text.

    Raises:
        ValueError: it holds an expression that is none of ours, or text beside one.

    Example:
        >>> binding("${{parent.jobs.prep.outputs.clean}}")
        Reference(kind='step_output', name='clean', step='prep')
        >>> binding("0.1") is None
        True
    """
    whole = _EXPRESSION.fullmatch(text.strip())
    if whole:
        return _parse(whole[1])
    if _EXPRESSION.search(text):
        raise ValueError(f"an expression must be the whole value, not a part of {text!r}")
    return None


def references(text: str) -> list[tuple[Reference, bool]]:
    """Every reference in a command with whether it stands in an optional group, in order.

    Raises:
        ValueError: an expression is none of ours, or a group is not closed.

    Example:
        >>> [(r.name, optional) for r, optional in references("f ${{inputs.a}} $[[--b ${{inputs.b}}]]")]
        [('a', False), ('b', True)]
    """
    return [(reference, grouped) for part, grouped in _parts(text) for reference in _all(part)]


def render(
    text: str, inputs: Mapping[str, str], outputs: Mapping[str, str], *, paths: Collection[str] | None = None
) -> str:
    r"""The command with every reference replaced by its value.

    Args:
        text: the template.
        inputs: value by name; an input that is absent is unset.
        outputs: path by name.
        paths: names of the inputs that are paths. When given, those and the outputs are made safe for a shell where
            they stand (bare, or inside quotes); other values go in as they are, as Azure ML does it.

    Raises:
        ValueError: an unset input stands outside a group.

    Example:
        >>> render("cp ${{inputs.a}} ${{outputs.o}} $[[-x ${{inputs.b}}]]", {"a": "1"}, {"o": "/o"})
        'cp 1 /o '
        >>> render("cat '${{inputs.a}}/x'", {"a": "it's"}, {}, paths=["a"])
        "cat 'it'\\''s/x'"
    """
    kept = _kept(text, inputs)
    done, last = "", 0
    for found in _EXPRESSION.finditer(kept):
        reference = _parse(found[1])
        known = outputs if reference.kind == "output" else inputs
        if reference.name not in known:
            raise ValueError(f"{reference} has no value and stands outside $[[ ]]")
        value = known[reference.name]
        done += kept[last : found.start()]
        safe = paths is not None and (reference.kind == "output" or reference.name in paths)
        done += _quoted(value, done) if safe else value
        last = found.end()
    return done + kept[last:]


def arguments(text: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> list[str] | None:
    """The arguments of a plain command, or None when it needs a shell.

    The template is split before values are put in, so a value with spaces stays one argument.

    Example:
        >>> arguments("stk-ml train ${{inputs.m}}", {"m": "my model.yml"}, {})
        ['stk-ml', 'train', 'my model.yml']
        >>> arguments("a && b", {}, {}) is None
        True
    """
    values: list[str] = []

    def slot(found: re.Match[str]) -> str:
        values.append(render(found[0], inputs, outputs))
        return _SLOT.format(len(values) - 1)

    split = _EXPRESSION.sub(slot, _kept(text, inputs)).strip()
    if _SHELL.search(split):
        return None
    try:
        words = shlex.split(split)
    except ValueError:
        return None
    return [re.sub(r"\x00(\d+)\x00", lambda found: values[int(found[1])], word) for word in words]


def program(text: str) -> str:
    """The first word of a command, empty when there is none.

    Example:
        >>> program("  stk-ml models list")
        'stk-ml'
    """
    return (text.split() or [""])[0]


def _parse(inside: str) -> Reference:
    inside = inside.strip()
    for kind, pattern in _KINDS.items():
        found = pattern.fullmatch(inside)
        if found:
            return Reference(kind, found["name"], found.groupdict().get("step") or "")
    raise ValueError(f"${{{{{inside}}}}} is no expression that the runner knows")


def _parts(text: str) -> Iterator[tuple[str, bool]]:
    last = 0
    for group in _GROUP.finditer(text):
        yield text[last : group.start()], False
        yield group[1], True
        last = group.end()
    if "$[[" in text[last:]:
        raise ValueError("the optional group $[[ is not closed with ]]")
    yield text[last:], False


def _all(text: str) -> list[Reference]:
    found = [_parse(match[1]) for match in _EXPRESSION.finditer(text)]
    if "${{" in _EXPRESSION.sub("", text):
        raise ValueError("the expression ${{ is not closed with }}")
    return found


def _kept(text: str, inputs: Mapping[str, str]) -> str:
    def keep(part: str, grouped: bool) -> bool:
        return not grouped or all(r.kind != "input" or r.name in inputs for r in _all(part))

    return "".join(part for part, grouped in _parts(text) if keep(part, grouped))


def _quoted(value: str, before: str) -> str:
    mark = _open_quote(before)
    if mark == "'":
        return value.replace("'", "'\\''")
    if mark == '"':
        return re.sub(r'([\\"$`])', r"\\\1", value)
    return shlex.quote(value)


def _open_quote(text: str) -> str:
    """The quote that is open at the end of a piece of shell, seen through ``$(...)`` inside double quotes."""
    open_: list[str] = []
    escaped = dollar = False
    for sign in text:
        mark = open_[-1] if open_ else ""
        if escaped:
            escaped = False
        elif sign == "\\" and mark != "'":
            escaped = True
        elif mark == "'":
            open_ = open_[:-1] if sign == "'" else open_
        elif sign == '"':
            open_ = open_[:-1] if mark == '"' else [*open_, sign]
        elif mark == '"':
            open_ = [*open_, "("] if sign == "(" and dollar else open_
        elif sign in "'(":
            open_.append(sign)
        elif sign == ")" and mark == "(":
            open_.pop()
        dollar = sign == "$"
    return open_[-1] if open_ else ""
