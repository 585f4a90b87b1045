from __future__ import annotations

import builtins

import pytest

from stk_ml import errors

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, errors.StkMlError)]


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_the_docstring_draws_the_whole_tree(error: type[errors.StkMlError]) -> None:
    assert errors.__doc__
    assert f"{error.__name__}" in errors.__doc__


@pytest.mark.parametrize("error", [c for c in CLASSES if c is not errors.StkMlError], ids=lambda error: error.__name__)
def test_each_error_refines_a_built_in(error: type[errors.StkMlError]) -> None:
    refined = [
        base
        for base in error.__mro__
        if base.__module__ == builtins.__name__ and base not in (Exception, BaseException, object)
    ]
    assert refined


def test_a_users_mistake_exits_with_2_and_a_failure_with_1() -> None:
    assert errors.UnknownNameError("model", "x").exit_code == 2
    assert errors.DataError("x").exit_code == 1
    assert errors.TableNotFoundError("x").exit_code == 2


def test_an_error_of_the_disk_can_be_caught_as_such() -> None:
    with pytest.raises(OSError, match="full"):
        raise errors.StorageError("the disk is full")
