"""Where a lake is and how delta-rs reaches it: a URI, a few options, and its errors turned into ours."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.fs import DeltaStorageHandler

from stk_ml.errors import SettingError, StkMlError, StorageError, UsageError, WriteConflictError, closest

#: Storage options of a lake in Azure: our key, delta-rs' key, what it is for.
KEYS: dict[str, tuple[str, str]] = {
    "account_name": ("azure_storage_account_name", "name of the storage account"),
    "account_key": ("azure_storage_account_key", "shared key; leave it out to use an identity"),
    "sas_token": ("azure_storage_sas_token", "shared access signature, instead of account_key"),
    "endpoint": ("azure_storage_endpoint", "URL of the Blob service; default the public one of the account"),
    "use_azure_cli": ("azure_use_azure_cli", "true: sign in as `az login` did, instead of as the workload identity"),
    "retry_timeout": ("retry_timeout", "how long a failing request is tried again (30s); default 60s"),
}
_SECRET = ("account_key", "sas_token")
_AZURE = ("az://", "abfs://", "abfss://")
_ACCOUNT = ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT")


@dataclass(frozen=True)
class Location:
    """A place in a lake.

    Attributes:
        uri: absolute folder, or az://container/folder, without a slash at the end.
        options: see :data:`KEYS`; none for a folder. Never printed.

    Raises:
        UsageError: the URI is of no kind that a lake can have.
        SettingError: an option is unknown, missing or not resolved.

    Example:
        >>> lake = Location("az://lake/", {"account_name": "stk", "account_key": "c2VjcmV0"})
        >>> lake
        Location(uri='az://lake')
        >>> (lake / "raw" / "flights").uri
        'az://lake/raw/flights'
    """

    uri: str
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "uri", _normal(self.uri))
        if self.remote:
            _check_options(self.uri, self.options)

    @property
    def remote(self) -> bool:
        """Whether it is in Azure."""
        return self.uri.startswith(_AZURE)

    def __truediv__(self, name: str) -> Location:
        """The place of that name below this one."""
        return Location(f"{self.uri.rstrip('/')}/{name}", self.options)

    @property
    def delta_options(self) -> dict[str, str]:
        """The options as delta-rs names them.

        Without a key or token, delta-rs signs in with the workload identity (``AZURE_CLIENT_ID``, ``AZURE_TENANT_ID``,
        ``AZURE_FEDERATED_TOKEN_FILE``), else with the machine's managed identity.
        """
        if not self.remote:
            return {}
        options = {KEYS[key][0]: value for key, value in self.options.items()}
        options.setdefault("retry_timeout", "60s")
        if self.options.get("endpoint", "").startswith("http://"):
            options["azure_allow_http"] = "true"
        return options

    def filesystem(self) -> pyarrow.fs.FileSystem:
        """This place as a pyarrow file system, by delta-rs' own client; FileNotFoundError when a folder is absent."""
        if not self.remote and not Path(self.uri).is_dir():
            raise FileNotFoundError(self.uri)
        return pyarrow.fs.PyFileSystem(DeltaStorageHandler(self.uri, self.delta_options))

    @contextmanager
    def errors(self, action: str) -> Iterator[None]:
        """Turns what delta-rs and pyarrow raise into ours; ``action`` reads like ``append to raw.flights``."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, StkMlError) or not _foreign(error):
                raise
            raise self._translated(error, action) from error

    def _translated(self, error: BaseException, action: str) -> StorageError:
        text = self._plain(str(error))
        if isinstance(error, CommitFailedError) or "table already exists" in text:
            return WriteConflictError(f"cannot {action}: another writer committed first", hint="run it again")
        for pattern, what, hint in _CAUSES:
            if re.search(pattern, text):
                return StorageError(f"cannot {action}: {what} ({self.uri})", hint=hint)
        return StorageError(f"cannot {action}: {text}")

    def _plain(self, text: str) -> str:
        """An error's text on one line, without colours, and without secrets."""
        for key in _SECRET:
            if self.options.get(key):
                text = text.replace(self.options[key].lstrip("?"), "***")
        text = re.sub(r"\bsig=[^&\s\"]+", "sig=***", text)
        text = re.sub(r"\x1b\[[0-9;]*m|↳|0: <unknown>.*", "", text, flags=re.S)
        return " ".join(text.split())[:500]


_CAUSES = (
    (
        r"os error (28|27|122|112)\b|No space left|quota exceeded",
        "the disk is full",
        "free some space and run it again; what was there before is still readable",
    ),
    (r"os error (13|30)\b|Permission denied|Read-only", "access is denied", "may you write there?"),
    (r"ContainerNotFound", "there is no such container", "create it, or mend the lake's URI"),
    (
        r"40[13] (Forbidden|Unauthorized)|Authorization|Authentication|Invalid Access Key|lacked the necessary",
        "access is refused",
        "check account_name and account_key or sas_token; an identity needs Storage Blob Data Contributor",
    ),
    (
        r"error sending request|client error \(Connect\)|dns error|timed out",
        "the storage cannot be reached",
        "check endpoint and account_name, and the network",
    ),
    (r"deletionVectors|columnMapping|reader (version|feature)", "it uses a Delta feature that is not supported", ""),
)


def _foreign(error: BaseException) -> bool:
    """Whether delta-rs or pyarrow raised it; delta-rs sometimes raises a bare Exception, or panics."""
    known = isinstance(error, DeltaError | OSError | pa.ArrowException)
    return known or type(error) is Exception or type(error).__name__ == "PanicException"


def _normal(uri: str) -> str:
    if uri.startswith(_AZURE):
        return uri.rstrip("/")
    if "://" in uri and not uri.startswith("file://"):
        raise UsageError(f"no lake can be at {uri!r}", hint="give a folder or az://container/folder")
    folder = str(Path(uri.removeprefix("file://")).expanduser().absolute())
    if re.search(r"%[0-9A-Fa-f]{2}", folder):  # delta-rs decodes it in one place and not in another
        raise UsageError(f"no lake can be at {folder!r}: it holds a percent escape", hint="rename the folder")
    return folder


def _check_options(uri: str, options: Mapping[str, Any]) -> None:
    for key, value in options.items():
        if key not in KEYS:
            raise SettingError(f"unknown lake option {key!r}", hint=closest(key, KEYS))
        if str(value).startswith("vault:"):
            raise SettingError(f"the lake option {key!r} is a reference that was not resolved: {value}")
    given = options.get("account_name") or any(os.environ.get(name) for name in _ACCOUNT) or "@" in uri
    if not given:
        raise SettingError(
            f"the lake {uri} needs account_name",
            hint=f"set it in lake_options of stk.toml, or in {_ACCOUNT[0]}",
        )
