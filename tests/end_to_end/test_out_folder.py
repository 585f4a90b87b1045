from __future__ import annotations

from pathlib import Path

import pytest

from stk_ml.contracts import refuse_foreign
from stk_ml.errors import UsageError
from stk_ml.features.training_set import published


def test_a_folder_with_files_of_the_users_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="holds other files"), published(tmp_path):
        pass
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_an_empty_folder_and_one_of_ours_are(tmp_path: Path) -> None:
    refuse_foreign(tmp_path, "manifest.json")
    (tmp_path / "manifest.json").write_text("{}")
    refuse_foreign(tmp_path, "manifest.json")
