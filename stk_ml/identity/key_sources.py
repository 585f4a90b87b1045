"""Where an issuer's public keys come from: a file that is watched, or an https URL that a thread fetches."""

from __future__ import annotations

import http.client
import logging
import threading
import urllib.request
from collections.abc import Hashable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stk_ml import private_files
from stk_ml.errors import IdentityError, SettingError, StkMlError, VaultError
from stk_ml.identity.jwks import EMPTY, KeySet, parse

log = logging.getLogger(__name__)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LARGEST = 2**20


class JwksFile:
    """A JWKS file. It is read again once it was replaced; while there is none, no key is known.

    Args:
        path: of the file.
        refresh: seconds between two looks at the file; a token of an unknown key asks for one at once, as often.
        keep: seconds that the last keys count while the file is damaged or cannot be read.
    """

    def __init__(self, path: str | Path, *, refresh: float = 1.0, keep: float = 300.0) -> None:
        self.path, self._refresh, self._keep = Path(path), refresh, keep
        self._keys = EMPTY
        self._stamp: Hashable = None
        self._looked = self._reloaded = self._good = float("-inf")
        self.trouble = ""

    def current(self, now: float) -> KeySet:
        """The keys in the file.

        Args:
            now: unix seconds.

        Raises:
            IdentityError: 503, the file has been unreadable for longer than ``keep``.
        """
        if abs(now - self._looked) >= self._refresh:
            self._look(now)
        if abs(now - self._good) > self._keep:
            raise _away()
        return self._keys

    def reload(self, now: float) -> KeySet:
        """The keys after another look at the file, unless there was one for this reason just before."""
        if abs(now - self._reloaded) >= self._refresh:
            self._reloaded = now
            self._look(now)
        return self.current(now)

    def _look(self, now: float) -> None:
        self._looked = now
        try:
            stamp = private_files.stamp(self.path)
            if stamp != self._stamp:
                self._keys = self._read()
                self._stamp = stamp
            self._good, self.trouble = now, ""
        except (OSError, VaultError, IdentityError) as error:
            if not self.trouble:
                log.warning("%s cannot be used, its last keys count: %s", self.path, error)
            self.trouble = str(error)

    def _read(self) -> KeySet:
        try:
            return parse(self.path.read_bytes(), str(self.path))
        except FileNotFoundError:
            return EMPTY


class JwksUrl:
    """A JWKS document on the web, fetched by a thread so that nobody waits for the network but for a moment.

    Args:
        url: https; plain http for this machine only.
        ttl: seconds after which the keys are fetched again.
        retry: seconds between two attempts, also for tokens of an unknown key.
        keep: seconds that the last keys count while the issuer is away.
        timeout: seconds for one attempt.
        patience: seconds that a caller waits for keys that are missing.

    Raises:
        SettingError: the URL is of another kind.

    Example:
        >>> JwksUrl("http://login.example/keys")
        Traceback (most recent call last):
        stk_ml.errors.SettingError: token_keys: keys are fetched over https, not from 'http://login.example/keys'
    """

    def __init__(
        self,
        url: str,
        *,
        ttl: float = 3600.0,
        retry: float = 10.0,
        keep: float = 86400.0,
        timeout: float = 5.0,
        patience: float = 0.2,
    ) -> None:
        try:
            parts = urlsplit(url)
        except ValueError:  # its text may hold a password
            raise SettingError("token_keys: this is no URL", hint="set an https URL, or a file") from None
        if not (parts.scheme == "https" and parts.hostname) and not (
            parts.scheme == "http" and parts.hostname in _LOOPBACK
        ):
            raise SettingError(
                f"token_keys: keys are fetched over https, not from {_shown(url)!r}", hint="set an https URL, or a file"
            )
        self.url, self._ttl, self._retry, self._keep = url, ttl, retry, keep
        self._timeout, self._patience = timeout, patience
        self._keys: KeySet | None = None
        self._data = b""
        self._fetched = self._tried = float("-inf")
        self._lock = threading.Lock()
        self.trouble = ""

    def current(self, now: float) -> KeySet:
        """The keys as they were fetched last; old ones are fetched again meanwhile.

        Args:
            now: unix seconds.

        Raises:
            IdentityError: 503, there are none yet, or the issuer has been away for longer than ``keep``.
        """
        age = abs(now - self._fetched)
        if age >= self._ttl:
            self._fetch(now, wait=self._keys is None or age > self._keep)
        keys = self._keys
        if keys is None or abs(now - self._fetched) > self._keep:
            raise _away()
        return keys

    def reload(self, now: float) -> KeySet:
        """The keys after another fetch, unless one was begun within the last ``retry`` seconds."""
        self._fetch(now, wait=True)
        return self.current(now)

    def _fetch(self, now: float, *, wait: bool) -> None:
        with self._lock:
            if abs(now - self._tried) < self._retry:
                return
            self._tried = now
        thread = threading.Thread(target=self._take, args=(now,), name="jwks", daemon=True)
        thread.start()
        if wait:
            thread.join(self._patience)

    def _take(self, now: float) -> None:
        try:
            data = _get(self.url, self._timeout)
            if data != self._data:
                keys = parse(data, _shown(self.url))
                if not keys.keys:
                    raise IdentityError(f"{_shown(self.url)} holds no usable key", status=503, reason="keys")
                self._keys, self._data = keys, data
            self._fetched, self.trouble = now, ""
        except (OSError, ValueError, http.client.HTTPException, StkMlError) as error:
            log.warning("keys of %s cannot be fetched: %s", _shown(self.url), error)
            self.trouble = f"{_shown(self.url)}: {error}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An issuer's keys are where the settings say, nowhere else."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _get(url: str, timeout: float) -> bytes:
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if urlsplit(url).hostname in _LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers={"Accept": "application/json"})  # noqa: S310
    with urllib.request.build_opener(*handlers).open(request, timeout=timeout) as answer:
        data: bytes = answer.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"the answer is larger than {_LARGEST} bytes")
    return data


def _shown(url: str) -> str:
    """The URL without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _away() -> IdentityError:
    return IdentityError("tokens cannot be checked at the moment", status=503, reason="keys", hint="try again later")
