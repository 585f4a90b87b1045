"""The laptop's vault: a JSON file that only its owner may read."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import TypeVar

import msgspec

from stk_ml import private_files
from stk_ml.errors import SecretNotFoundError, VaultError, closest

T = TypeVar("T")
#: What a secret may be called: the rule of Key Vault, so that every name can move there.
NAME = re.compile(r"[0-9A-Za-z-]{1,127}")


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    """The file: its format, and the secrets by name."""

    format: int
    secrets: dict[str, str]

    __repr__ = object.__repr__


class FileSecretStore:
    """Secrets in one file of mode 600, in a folder that is created with mode 700.

    A file that others than its owner may use and a symbolic link are refused. Each change replaces the file as a whole
    under a lock, so that writers at the same time both win and a reader never sees half a file.

    Args:
        path: of the file; it need not exist.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> store = FileSecretStore(Path(folder.name) / "vault.json")
        >>> store.set("database-password", "s3cret")
        >>> store.get("database-password"), store.names()
        ('s3cret', ['database-password'])
        >>> folder.cleanup()
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"FileSecretStore({str(self.path)!r})"

    def get(self, name: str) -> str:
        """The current value of a secret.

        Raises:
            SecretNotFoundError: there is none of that name.
            VaultError: the file is refused (see the class) or damaged.
        """
        secrets = self._read()
        if name not in secrets:
            raise SecretNotFoundError(f"no secret {name!r} in {self.path}", hint=closest(name, secrets))
        return secrets[name]

    def set(self, name: str, value: str) -> None:
        """Stores a value.

        Raises:
            VaultError: the name is not 1 to 127 letters, digits and dashes, the value is empty or no Unicode text, or
                the file is refused or cannot be written.
        """
        _check(name, value)
        self._change(lambda secrets: secrets.__setitem__(name, value))

    def add(self, name: str, value: str) -> bool:
        """Stores a value unless the secret has one, whoever else tries at the same time; whether it was stored.

        Raises:
            VaultError: as :meth:`set`.
        """
        _check(name, value)
        return self._change(lambda secrets: secrets.setdefault(name, value) is value)

    def delete(self, name: str) -> None:
        """Removes a secret; nothing happens when there is none.

        Raises:
            VaultError: the file is refused or cannot be written.
        """
        if name in self._read():
            self._change(lambda secrets: secrets.pop(name, None))

    def names(self) -> list[str]:
        """Names of all secrets, sorted.

        Raises:
            VaultError: the file is refused or damaged.
        """
        return sorted(self._read())

    def modified(self) -> Hashable:
        """A stamp that differs once the file was changed: one lstat.

        Raises:
            VaultError: the file system did not answer.
        """
        return private_files.stamp(self.path)

    def _change(self, change: Callable[[dict[str, str]], T]) -> T:
        with private_files.locked(self.path):
            secrets = self._read()
            before = dict(secrets)
            result = change(secrets)
            if secrets != before:
                data = msgspec.json.encode(_Document(1, secrets), order="sorted")
                private_files.write(self.path, msgspec.json.format(data, indent=2) + b"\n")
        return result

    def _read(self) -> dict[str, str]:
        data = private_files.read(self.path)
        if data is None:
            return {}
        try:
            document = msgspec.json.decode(data, type=_Document)
        except (msgspec.DecodeError, UnicodeDecodeError):  # whose texts may quote what is in the file
            document = None
        if document is None or document.format != 1:
            raise VaultError(
                f"{self.path} does not hold a vault, or is damaged",
                hint="put a copy back, or move it away: stk-ml deploy makes new keys",
            )
        return document.secrets


def _check(name: str, value: str) -> None:
    if not NAME.fullmatch(name):
        raise VaultError(
            f"a secret cannot be called {name[:140]!r}", hint="a name has 1 to 127 letters, digits and dashes"
        )
    if not value:
        raise VaultError(f"the value of secret {name!r} is empty", hint="delete the secret instead")
    if not _is_text(value):
        raise VaultError(f"the value of secret {name!r} is not Unicode text")


def _is_text(value: str) -> bool:
    """Whether it can be written; the error of the attempt would carry the value."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
