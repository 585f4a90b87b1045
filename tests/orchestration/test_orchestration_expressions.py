"""Expressions are read, written and put into commands as Azure ML does, safely for the shell."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stk_ml.orchestration import expressions
from stk_ml.orchestration.expressions import Reference

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,12}", fullmatch=True)
references = st.one_of(
    st.builds(Reference, st.sampled_from(["input", "output", "parent_input", "parent_output"]), names),
    st.builds(Reference, st.just("step_output"), names, names),
)
plain = st.text(st.characters(codec="utf-8", exclude_characters="${}[]"), max_size=20)


@given(references, st.sampled_from(["", " ", "\n "]))
def test_a_reference_survives_being_written_and_read(reference, space):
    written = str(reference).replace("${{", "${{" + space).replace("}}", space + "}}")
    assert expressions.binding(written) == reference


@given(st.lists(st.tuples(plain, names), max_size=5), plain)
def test_rendering_puts_every_value_where_its_expression_stood(parts, end):
    template = "".join(f"{text}${{{{inputs.{name}}}}}" for text, name in parts) + end
    values = {name: f"<{name}>" for _, name in parts}
    assert expressions.render(template, values, {}) == "".join(f"{text}<{name}>" for text, name in parts) + end


@given(plain, plain, plain, st.booleans())
def test_an_optional_group_is_kept_or_dropped_as_a_whole(before, inside, after, given_value):
    template = f"{before}$[[{inside}${{{{inputs.x}}}}]]{after}"
    values = {"x": "1"} if given_value else {}
    kept = f"{inside}1" if given_value else ""
    assert expressions.render(template, values, {}) == before + kept + after


@pytest.mark.parametrize(
    "template",
    ["printf %s {}", 'printf %s "{}"', "printf %s '{}'", "printf %s \"$(printf %s '{}')\"", "(printf %s {})"],
)
@settings(max_examples=15, deadline=None)
@given(value=st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\n"), min_size=1, max_size=12))
def test_a_path_reaches_the_command_whole_however_it_is_quoted(template, value):
    line = expressions.render(template.format("${{inputs.p}}"), {"p": value}, {}, paths=["p"])
    assert subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout.decode() == value


@given(st.text(min_size=1, max_size=30).filter(lambda text: "\x00" not in text))
def test_a_value_is_one_argument_of_a_plain_command(value):
    found = expressions.arguments("stk-ml x --y ${{inputs.v}} --z=${{inputs.v}}", {"v": value}, {})
    assert found == ["stk-ml", "x", "--y", value, f"--z={value}"]


@pytest.mark.parametrize("line", ["a && b", "a | b", "a > f", "a $HOME", "A=1 a", "a; b", "a `b`", "a\nb", "a 'b"])
def test_a_line_that_needs_a_shell_is_not_split(line):
    assert expressions.arguments(line, {}, {}) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("${{nonsense.x}}", "no expression"),
        ("${{search_space.lr}}", "no expression"),
        ("--x ${{inputs.x", "not closed"),
        ("$[[--x ${{inputs.x}}", "not closed"),
    ],
)
def test_what_is_no_expression_is_an_error(text, words):
    with pytest.raises(ValueError, match=words):
        expressions.references(text)


def test_an_expression_beside_other_text_is_no_binding():
    with pytest.raises(ValueError, match="whole value"):
        expressions.binding("x${{parent.inputs.a}}")
