"""From settings to what a worker is run with: the artifact, who may call, where telemetry goes."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from stk_ml.artifact import manifest
from stk_ml.artifact.document import unseal
from stk_ml.endpoint_state import Deployment
from stk_ml.errors import SettingError, closest
from stk_ml.identity.protocol import Caller, TokenVerifier
from stk_ml.serving.auth import HeaderVerifier, KeyRing, NoVerifier
from stk_ml.serving.protocol import Hook, Verifier
from stk_ml.serving.worker import Telemetry
from stk_ml.settings import Settings

#: What a caller may be asked to show.
WAYS = ("any", "key", "token", "none")
_DEPTH = 3
#: Seconds after which a simulated clock is looked at again: it tells nobody that it was set.
_TICK = 0.005


def artifact_folder(model: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The artifact that is meant by a path, or by AZUREML_MODEL_DIR when none is given; None for a registered name.

    Raises:
        SettingError: neither a model nor AZUREML_MODEL_DIR is given, or it holds no artifact or several.
    """
    if model:
        return Path(model).resolve() if (Path(model) / manifest.NAME).is_file() else None
    root = environ.get("AZUREML_MODEL_DIR", "")
    if not root:
        raise SettingError("no model is named", hint="stk-ml serve MODEL, or set AZUREML_MODEL_DIR to an artifact")
    patterns = ("/".join(["*"] * depth + [manifest.NAME]) for depth in range(_DEPTH + 1))
    found = next((hits for pattern in patterns if (hits := sorted(Path(root).glob(pattern)))), [])
    if len(found) != 1:
        what = "no model artifact" if not found else f"{len(found)} model artifacts"
        raise SettingError(f"AZUREML_MODEL_DIR={root} holds {what}", hint="mount one model there")
    return found[0].parent


def deployment(folder: Path, name: str = "", version: int = 0) -> Deployment:
    """The deployment that a folder alone makes, taking all traffic.

    Raises:
        ArtifactError: it is no artifact.
    """
    document, digest = unseal(folder)
    return Deployment(f"v{version}", name or document.name, version, digest, str(folder), traffic=100)


def verifier(settings: Settings, endpoint: str, *, create: bool) -> Verifier:
    """Who may call an endpoint, as the setting ``auth`` says.

    Args:
        settings: of the project.
        endpoint: whose keys count.
        create: whether missing keys are made.

    Raises:
        SettingError: the setting is none of ``any``, ``key``, ``token``, ``none``, nothing could be shown at all, or
            ``token_keys`` is no place that keys are taken from.
    """
    from stk_ml.vault import keys
    from stk_ml.vault.local import FileSecretStore

    way = settings.auth
    if way not in WAYS:
        raise SettingError(f"auth {way!r} is not known", hint=closest(way, WAYS))
    if way == "none":
        return NoVerifier()
    if way in ("any", "token"):
        _check_token_keys(settings)
    ring = None
    if way in ("any", "key"):
        store = FileSecretStore(settings.vault)
        if create:
            keys.ensure(store, endpoint)
        ring = KeyRing(store, endpoint)
    return HeaderVerifier(ring, TokensLater(settings) if way in ("any", "token") else None)


def _check_token_keys(settings: Settings) -> None:
    """Refuses keys that no token could ever be checked with: a caller would be the first to notice."""
    where = settings.token_keys
    if "://" in where:
        from stk_ml.identity.jwt import key_source

        try:
            key_source(where)
        except SettingError as error:
            raise SettingError(f"{error}, as {settings.origins['token_keys']} says", hint=error.hint) from error
    elif settings.auth == "token" and not Path(where).is_file():
        raise SettingError(
            f"auth is token, and there are no keys of an issuer at {where}",
            hint="stk-ml token makes a dev issuer; for Entra ID set token_keys, token_issuer and token_audience",
        )


class TokensLater:
    """Checks bearer tokens; PyJWT is imported, and the issuer's keys are read, when the first one comes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _verifier(self) -> TokenVerifier:
        from stk_ml.identity.jwt import JwtVerifier, key_source

        settings = self._settings
        return JwtVerifier(key_source(settings.token_keys), settings.token_issuer, settings.token_audience)

    def verify(self, token: str, *, now: float) -> Caller:
        """See :class:`stk_ml.identity.protocol.TokenVerifier`."""
        return self._verifier.verify(token, now=now)


class _Silent:
    """A hook that forgets."""

    def scored(self, request_id: str, row_id: str, row: Any, score: float, route: str, seconds: float) -> None: ...
    def rows(self, request_id: str, row_ids: Any, matrix: Any, scores: Any) -> None: ...
    def request(self, request_id: str, route: str, status: int, seconds: float, reason: str = "") -> None: ...
    def count(self, what: str, column: str, rows: int) -> None: ...
    def difference(self, request_id: str, live: Any, shadow: Any) -> None: ...


def no_telemetry() -> Telemetry:
    """Logs nothing."""
    silent: Hook = _Silent()
    return Telemetry(silent, lambda deployment: silent, lambda hook: None, lambda seconds: None)


def telemetry(settings: Settings, endpoint: str, *, every: float) -> Telemetry:
    """Logs to Parquet, every so many seconds of the clock that the settings name.

    Raises:
        StorageError: a deployment's artifact lacks its reference profile.
    """
    import pyarrow.parquet  # noqa: F401  the first flush would import it, between requests

    from stk_ml.clock import clock
    from stk_ml.telemetry.flusher import Flusher
    from stk_ml.telemetry.histogram import FeatureBins
    from stk_ml.telemetry.local import ParquetPredictionLog
    from stk_ml.telemetry.protocol import Source
    from stk_ml.telemetry.recorder import Recorder

    worker = f"{os.uname().nodename}-{os.getpid()}-{int(time.time())}"
    now = clock(settings.clock)
    tick = _TICK if settings.clock else math.inf
    flusher = Flusher(ParquetPredictionLog(settings.telemetry), every=every, clock=now, tick=tick)

    def source(of: Deployment | None) -> Source:
        if of is None:
            return Source(endpoint, "", "", 0, "", worker)
        shadow = of.shadow and not of.traffic
        return Source(endpoint, of.name, of.model, of.version, of.digest, worker, shadow)

    def open_(of: Deployment) -> Hook:
        recorder = Recorder(source(of), FeatureBins.from_artifact(Path(of.folder)), flusher, clock=now)
        flusher.add(recorder)
        return recorder

    unrouted = Recorder(source(None), None, flusher, clock=now)
    flusher.add(unrouted)
    return Telemetry(
        unrouted, open_, cast(Callable[[Hook], None], flusher.remove), flusher.close, lambda: _tidy(settings.telemetry)
    )


def _tidy(folder: Path) -> None:
    """Merges the log's small files in a process of its own, so that no request waits for it."""
    command = [sys.executable, "-m", "stk_ml.telemetry.compaction", str(folder)]
    subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)  # noqa: S603
