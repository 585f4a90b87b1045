from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stk_ml.errors import SecretNotFoundError, SettingError
from stk_ml.vault.local import NAME, FileSecretStore
from stk_ml.vault.references import is_reference, refuse_unresolved, resolve

NAMES = st.from_regex(NAME, fullmatch=True)


class OneSecret:
    """A vault of one secret, by whatever name."""

    def get(self, name: str) -> str:
        return f"value of {name}"


@given(NAMES)
def test_every_name_of_the_vault_can_be_referred_to(name: str) -> None:
    assert is_reference(f"vault:{name}")
    assert resolve(f"vault:{name}", OneSecret()) == f"value of {name}"  # type: ignore[arg-type]


@given(st.text())
def test_a_value_is_a_reference_or_refused_or_itself(value: str) -> None:
    if is_reference(value):
        assert value.startswith("vault:")
        with pytest.raises(SettingError):
            refuse_unresolved(value)
        return
    try:
        assert resolve(value, OneSecret()) is value  # type: ignore[arg-type]
    except SettingError:
        lower = value.lower().strip()
        assert lower.startswith(("vault:", "keyvault:", "@microsoft.keyvault(")) or "${{" in lower


@given(
    st.sampled_from(["vault:", "VAULT:", "keyvault:", "KeyVault:", "@Microsoft.KeyVault(", "@microsoft.keyvault("]),
    st.text(),
    st.sampled_from(["", " ", "\n"]),
)
def test_whatever_begins_like_a_reference_is_refused(form: str, rest: str, before: str) -> None:
    with pytest.raises(SettingError):
        refuse_unresolved(before + form + rest)


@given(st.text(), st.text(), st.text())
def test_a_template_anywhere_is_refused(before: str, inside: str, after: str) -> None:
    with pytest.raises(SettingError):
        refuse_unresolved(f"{before}${{{{{inside}}}}}{after}")


@pytest.mark.parametrize(
    "value",
    ["vault:a b", "vault:a/b", "keyvault:kv/name", "${{ secrets.HUNTER2 }}", "Bearer ${{x}}",
     "@Microsoft.KeyVault(SecretUri=https://kv.vault.azure.net/secrets/x)"],
)  # fmt: skip
def test_the_refusal_names_the_form_and_not_the_value(value: str) -> None:
    with pytest.raises(SettingError, match="looks like a reference that was not resolved") as caught:
        refuse_unresolved(value)
    assert value not in f"{caught.value} {caught.value.hint}"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("value", ["", "s3cret", "my-vault:x", "a ${b} c", "$(x)", "{{x}}", "Default: vault"])
def test_an_ordinary_literal_passes(value: str) -> None:
    assert refuse_unresolved(value) is value


def test_a_reference_to_nothing_names_it(tmp_path: Path) -> None:
    with pytest.raises(SecretNotFoundError, match="no secret 'sap-password'"):
        resolve("vault:sap-password", FileSecretStore(tmp_path / "vault.json"))
