"""Secrets by reference: ``vault:NAME`` in a setting stands for the secret of that name."""

from __future__ import annotations

import re

from stk_ml.errors import SettingError
from stk_ml.vault.protocol import SecretStore

_REFERENCE = re.compile(r"vault:([0-9A-Za-z-]{1,127})")
#: Forms of reference that somebody else was to resolve, each with what it is called.
_UNRESOLVED = (
    (re.compile(r"\s*vault:", re.I), "vault:NAME"),
    (re.compile(r"\s*keyvault:", re.I), "keyvault:"),
    (re.compile(r"\s*@Microsoft\.KeyVault\(", re.I), "@Microsoft.KeyVault(...)"),
    (re.compile(r".*\$\{\{.*\}\}", re.S), "${{...}}"),
)


def is_reference(value: str) -> bool:
    """Whether a value is a reference to a secret of our vault.

    Example:
        >>> is_reference("vault:sap-password"), is_reference("vault:"), is_reference("s3cret")
        (True, False, False)
    """
    return _REFERENCE.fullmatch(value) is not None


def resolve(value: str, store: SecretStore) -> str:
    """The secret that a reference names; any other value as it is.

    Raises:
        SecretNotFoundError: the vault holds no secret of that name.
        VaultError: the vault cannot be read.
        SettingError: the value is a reference of another kind, or no well-formed one.

    Example:
        >>> import tempfile
        >>> from stk_ml.vault.local import FileSecretStore
        >>> folder = tempfile.TemporaryDirectory()
        >>> store = FileSecretStore(f"{folder.name}/vault.json")
        >>> store.set("sap-password", "s3cret")
        >>> resolve("vault:sap-password", store), resolve("plain", store)
        ('s3cret', 'plain')
        >>> folder.cleanup()
    """
    found = _REFERENCE.fullmatch(value)
    return store.get(found[1]) if found else refuse_unresolved(value)


def refuse_unresolved(value: str) -> str:
    """Returns a literal as it is, unless it looks like a reference that nobody resolved.

    Raises:
        SettingError: it does; the value is not shown, for it may hold a secret beside the reference.

    Example:
        >>> refuse_unresolved("s3cret")
        's3cret'
        >>> refuse_unresolved("${{ secrets.KEY }}")
        Traceback (most recent call last):
        stk_ml.errors.SettingError: a secret looks like a reference that was not resolved: ${{...}}
    """
    for pattern, form in _UNRESOLVED:
        if pattern.match(value):
            raise SettingError(
                f"a secret looks like a reference that was not resolved: {form}",
                hint="write vault:NAME, with the name of a secret (letters, digits and dashes), or the secret itself",
            )
    return value
