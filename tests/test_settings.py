from __future__ import annotations

from pathlib import Path

import pytest

from stk_ml.errors import DeclarationError, SettingError, UnknownNameError
from stk_ml.settings import Settings, without_password


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "stk.toml").write_text(
        '[project]\nprofile = "desk"\n[profile.desk]\nlake = "data"\n'
        '[profile.desk.lake_options]\naccount_key = "s3cret"\n'
        '[profile.cloud]\nlake = "az://lake"\n'
    )
    return tmp_path


def test_a_flag_wins_over_the_environment_over_the_file_over_the_default(project: Path) -> None:
    environ = {"STK_ML_LAKE": "from-environment"}
    assert Settings.load(project, environ={}).lake == str(project / "data")
    assert Settings.load(project, environ=environ).lake == str(project / "from-environment")
    flagged = Settings.load(project, environ=environ, flags={"lake": "az://flag"})
    assert (flagged.lake, flagged.origins["lake"]) == ("az://flag", "--lake")
    assert Settings.load(project, environ={}).origins["cache"] == "default"


def test_profile_by_argument_and_environment(project: Path) -> None:
    assert Settings.load(project, profile="cloud", environ={}).lake == "az://lake"
    assert Settings.load(project, environ={"STK_ML_PROFILE": "cloud"}).lake == "az://lake"
    with pytest.raises(UnknownNameError, match="unknown profile 'clowd'") as caught:
        Settings.load(project, profile="clowd", environ={})
    assert "did you mean 'cloud'?" in caught.value.hint


def test_the_project_is_found_from_below(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = project / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert Settings.load(environ={}).project == project


def test_mlflows_own_variable_counts_after_ours(project: Path) -> None:
    environ = {"MLFLOW_TRACKING_URI": "https://mlflow.example"}
    assert Settings.load(project, environ=environ).tracking_uri == "https://mlflow.example"
    environ["STK_ML_TRACKING_URI"] = "sqlite:///x.db"
    assert Settings.load(project, environ=environ).tracking_uri == f"sqlite:///{project / 'x.db'}"


def test_storage_options_do_not_show(project: Path) -> None:
    settings = Settings.load(project, environ={})
    assert settings.lake_options == {"account_key": "s3cret"}
    assert "s3cret" not in repr(settings)


def test_a_password_in_the_store_does_not_show(project: Path) -> None:
    settings = Settings.load(project, environ={"STK_ML_TRACKING_URI": "https://me:s3cret@mlflow.example"})
    assert "s3cret" not in repr(settings)
    assert without_password(settings.tracking_uri) == "https://mlflow.example"


def test_an_unknown_setting_names_line_and_closest(tmp_path: Path) -> None:
    (tmp_path / "stk.toml").write_text('[profile.laptop]\n\nlaek = "x"\n')
    with pytest.raises(DeclarationError, match=r"stk.toml:3: unknown setting 'laek'") as caught:
        Settings.load(tmp_path, environ={})
    assert "did you mean 'lake'?" in caught.value.hint


def test_broken_toml_and_empty_variables_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="STK_ML_LAKE is set to nothing"):
        Settings.load(tmp_path, environ={"STK_ML_LAKE": " "})
    (tmp_path / "stk.toml").write_text("[profile")
    with pytest.raises(DeclarationError, match="not valid TOML"):
        Settings.load(tmp_path, environ={})
