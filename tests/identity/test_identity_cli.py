from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from token_makers import RSA_KEYS, entry, publish

from stk_ml.cli.app import main
from stk_ml.identity.jwt import JwtVerifier, key_source
from stk_ml.settings import Settings
from stk_ml.vault import keys
from stk_ml.vault.local import FileSecretStore


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "stk.toml").write_text("[profile.laptop]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def checks(capfd: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    capfd.readouterr()
    main(["doctor", "--json"])
    return {check["name"]: check for check in json.loads(capfd.readouterr().out)}


def test_a_printed_token_is_one_that_the_scoring_app_accepts(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "--subject", "ada"]) == 0
    text = capfd.readouterr().out
    assert text.count("\n") == 1, "one line, for $(stk-ml token)"
    settings = Settings.load(project)
    verifier = JwtVerifier(key_source(settings.token_keys), settings.token_issuer, settings.token_audience)
    assert verifier.verify(text.strip(), now=time.time()).name == "ada"


def test_json_tells_when_it_expires(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "--json", "--minutes", "5", "--scope", "read score"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert 290 < document["expires"] - time.time() < 301
    assert (document["subject"], document["scope"]) == ("developer", "read score")


def test_rotate_signs_with_a_new_key(project: Path) -> None:
    assert main(["token"]) == main(["token", "--rotate"]) == 0
    assert len(json.loads((project / ".stk/identity/jwks.json").read_bytes())["keys"]) == 2


@pytest.mark.parametrize("minutes", ["0", "-1", "1441", "nan", "soon"])
def test_a_time_out_of_range_is_the_users_mistake(project: Path, minutes: str) -> None:
    assert main(["token", f"--minutes={minutes}"]) == 2
    assert not (project / ".stk").exists()


@pytest.mark.parametrize("where", ["https://login.microsoftonline.com/t/discovery/v2.0/keys", "keys/entra.json"])
def test_keys_of_another_issuer_are_not_signed_with(
    project: Path, where: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STK_ML_TOKEN_KEYS", where)
    assert main(["token"]) == 2
    assert "whose issuer is not this laptop" in capfd.readouterr().err


def test_doctor_tells_that_nothing_is_set_yet(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found = checks(capfd)
    assert (found["secrets"]["ok"], found["token keys"]["ok"]) == (None, None)
    assert not (project / ".stk/vault.json").exists()


def test_doctor_names_keys_and_secrets_and_shows_no_value(project: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = FileSecretStore(project / ".stk/vault.json")
    keys.ensure(store, "flights")
    store.set("sap-password", "hunter2hunter2")
    main(["token"])
    found = checks(capfd)
    assert found["secrets"]["detail"] == (
        f"3 in {store.path}, mode 600; endpoint flights: primary and secondary; sap-password"
    )
    assert found["token keys"]["detail"] == (f"1 of stk-ml-dev at {project}/.stk/identity/jwks.json, for api://stk-ml")
    shown = json.dumps(list(found.values()))
    assert not any(store.get(name) in shown for name in store.names())


def test_doctor_fails_on_a_vault_that_others_may_read_and_on_bad_keys(
    project: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = FileSecretStore(project / ".stk/vault.json")
    store.set("a", "1")
    store.path.chmod(0o644)
    jwks = project / ".stk/identity/jwks.json"
    jwks.parent.mkdir()
    publish(jwks, entry(RSA_KEYS[0], "one", use="enc"))
    found = checks(capfd)
    assert (found["secrets"]["ok"], found["secrets"]["hint"]) == (False, f"chmod 600 {store.path}")
    assert (found["token keys"]["ok"], found["token keys"]["hint"]) == (False, "none of its keys can be used")
    jwks.write_bytes(b"{")
    assert "holds no JSON Web Key Set" in str(checks(capfd)["token keys"]["detail"])


def test_doctor_shows_a_place_that_keys_are_not_taken_from(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STK_ML_TOKEN_KEYS", "http://ada:secret@login.example/keys")
    found = checks(capfd)
    assert found["token keys"]["ok"] is False
    assert "over https, not from 'http://login.example/keys'" in str(found["token keys"]["detail"])
    assert "profile" in found
    assert "secret@" not in json.dumps(found)
