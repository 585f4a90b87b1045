"""Names, zones and listings of the lake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from stk_ml.errors import SettingError, TableNotFoundError, UsageError
from stk_ml.lake.lake import Lake

ROWS = pa.table({"id": [1, 2]})


def test_tables_lists_what_was_written_by_zone(lake: Lake) -> None:
    assert lake.tables() == []
    for name in ("raw.weather", "raw.flights", "curated.plane"):
        lake.table(name).append(ROWS)
    assert lake.tables() == ["curated.plane", "raw.flights", "raw.weather"]
    assert lake.tables("raw") == ["raw.flights", "raw.weather"]
    assert lake.tables("features") == []


def test_tables_leaves_out_folders_that_are_no_tables(folder: Lake) -> None:
    folder.table("raw.flights").append(ROWS)
    for other in ("raw/notes", "raw/Backup", "raw/half/_delta_log", "elsewhere/x"):
        Path(folder.uri, other).mkdir(parents=True)
    assert folder.tables() == ["raw.flights"]
    assert not folder.table("raw.half").exists()


@pytest.mark.parametrize("name", ["flights", "rwa.flights", "", ".flights", "raw/flights"])
def test_a_name_without_a_known_zone_is_refused_with_the_zones(folder: Lake, name: str) -> None:
    with pytest.raises(UsageError, match=r"ZONE\.TABLE") as caught:
        folder.table(name)
    assert "raw, curated, features" in caught.value.hint


@pytest.mark.parametrize(
    "name", ["raw.", "raw.Flights", "raw.1st", "raw.a.b", "raw.a-b", "raw.a b", "raw.../x", "raw.é"]
)
def test_a_malformed_table_name_is_refused(folder: Lake, name: str) -> None:
    with pytest.raises(UsageError, match="lower case"):
        folder.table(name)


def test_an_unknown_zone_is_refused(folder: Lake) -> None:
    with pytest.raises(UsageError, match="no zone 'bronze'"):
        folder.tables("bronze")


def test_a_missing_table_names_the_closest(lake: Lake) -> None:
    lake.table("raw.flights").append(ROWS)
    missing = lake.table("raw.flight")
    assert not missing.exists()
    for read in (missing.read, missing.version, missing.pinned, missing.schema, missing.dataset, missing.metadata):
        with pytest.raises(TableNotFoundError, match=r"no table raw\.flight ") as caught:
            read()
        assert "did you mean 'raw.flights'?" in caught.value.hint


def test_a_folder_with_spaces_and_signs_works(tmp_path: Path) -> None:
    lake = Lake(str(tmp_path / "Données & co #1 (100%) ?"))
    lake.table("raw.flights").append(ROWS)
    lake.table("raw.flights").merge(pa.table({"id": [3]}), key=["id"])
    assert lake.table("raw.flights").read().num_rows == 3
    assert lake.tables() == ["raw.flights"]


def test_a_relative_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Lake("lake").uri == Lake("lake/").uri == Lake(f"file://{tmp_path}/lake").uri == str(tmp_path / "lake")


@pytest.mark.parametrize("uri", ["s3://bucket/lake", "https://x/y", "/data/a%20b"])
def test_a_uri_that_cannot_be_a_lake_is_refused(uri: str) -> None:
    with pytest.raises(UsageError, match="no lake can be at"):
        Lake(uri)


def test_importing_the_lake_pulls_in_nothing_slow() -> None:
    code = "import sys, stk_ml.lake.lake; print({'adlfs', 'azure', 'pandas', 'duckdb', 'mlflow'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_options_are_checked_and_never_printed() -> None:
    lake = Lake("az://lake", {"account_name": "stk", "account_key": "c2VjcmV0"})
    assert "c2VjcmV0" not in repr(lake) + repr(lake.table) + repr(lake._location)
    with pytest.raises(SettingError, match="unknown lake option 'acount_name'") as caught:
        Lake("az://lake", {"acount_name": "stk"})
    assert "account_name" in caught.value.hint
    with pytest.raises(SettingError, match="not resolved"):
        Lake("az://lake", {"account_name": "stk", "account_key": "vault:lake-key"})


def test_a_lake_in_azure_needs_an_account(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SettingError, match="needs account_name"):
        Lake("az://lake")
    assert Lake("abfss://lake@stk.dfs.core.windows.net/x").uri.startswith("abfss://")
