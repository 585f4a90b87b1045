"""Where things are: read once, from flags, environment, stk.toml and defaults, in that order.

``stk.toml`` at the root of a project holds profiles::

    [project]
    name = "flights"
    profile = "laptop"            # the profile used when none is asked for

    [profile.laptop]
    lake = ".stk/lake"

    [profile.laptop.lake_options] # passed to the storage of the lake, e.g. account_name

Relative paths in it are relative to the folder that holds it.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from stk_ml.errors import DeclarationError, SettingError, UnknownNameError, closest

#: Every setting with its default, and what it is for.
DEFAULTS: dict[str, tuple[str, str]] = {
    "lake": (".stk/lake", "root of the lake: a folder or az://container[/folder]"),
    "tracking_uri": ("sqlite:///.stk/mlflow.db", "MLflow tracking and registry store"),
    "artifacts": (".stk/artifacts", "where MLflow keeps artifacts when the store is SQLite"),
    "cache": (".stk/cache", "outputs of pipeline steps, by content"),
    "pipelines": ("pipelines", "folder of models/, features/, components/ and the pipelines"),
    "vault": (".stk/vault.json", "file of the laptop's vault, readable by its owner only"),
    "endpoints": (".stk/endpoints", "state, logs and models of local endpoints"),
    "telemetry": (".stk/telemetry", "what the scoring app logs, as Parquet"),
    "monitoring": (".stk/monitoring", "verdicts, reports, and the state of retraining, by model"),
    "schedules": (".stk/schedules", "applied schedules, and when each ran last"),
    "auth": ("any", "what a caller of the scoring app has to show: any, key, token or none"),
    "token_issuer": ("stk-ml-dev", "issuer that a bearer token must name"),
    "token_audience": ("api://stk-ml", "audience that a bearer token must name"),
    "token_keys": (".stk/identity/jwks.json", "public keys of the issuer: a JWKS file or an https URL"),
    "clock": ("", "file of a clock that a simulation sets, for telemetry; default the machine's clock"),
}
#: Environment variables that other tools already set; read after STK_ML_NAME.
ALIASES = {"tracking_uri": "MLFLOW_TRACKING_URI"}
_LOCAL = (
    *("lake", "artifacts", "cache", "pipelines", "vault", "endpoints", "telemetry", "monitoring", "schedules"),
    *("token_keys", "clock"),
)


@dataclass(frozen=True)
class Settings:
    """The settings of one project and profile.

    Attributes:
        project: absolute path of the project's folder.
        profile: name of the profile in stk.toml (``laptop`` when there is no file).
        lake: absolute folder or URI of the lake.
        tracking_uri: MLflow store, with an absolute path when it is SQLite.
        artifacts, cache, pipelines, endpoints, telemetry, monitoring, schedules: absolute folders.
        vault: absolute file of the laptop's vault.
        auth: what a caller of the scoring app has to show: any (key or token), key, token, none.
        token_issuer, token_audience: what a bearer token must name.
        token_keys: the issuer's public keys: an absolute file or a URL.
        clock: file of a simulated clock, see :mod:`stk_ml.clock`; empty for the machine's.
        lake_options: storage options of the lake (account name, endpoint); never printed.
        origins: for each setting, where its value came from.

    Example:
        >>> settings = Settings.load("/tmp", environ={"STK_ML_LAKE": "az://lake"})
        >>> settings.lake, settings.origins["lake"], settings.cache.as_posix()
        ('az://lake', 'STK_ML_LAKE', '/tmp/.stk/cache')
    """

    project: Path
    profile: str
    lake: str
    tracking_uri: str = field(repr=False)
    artifacts: Path
    cache: Path
    pipelines: Path
    vault: Path
    endpoints: Path
    telemetry: Path
    monitoring: Path
    schedules: Path
    auth: str
    token_issuer: str
    token_audience: str
    token_keys: str
    clock: str = ""
    lake_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    origins: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def load(
        cls,
        project: str | Path | None = None,
        *,
        profile: str | None = None,
        flags: Mapping[str, str | None] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Settings:
        """Reads the settings of the project at or above a folder.

        Args:
            project: the project's folder; default ``STK_ML_PROJECT``, else the first folder at or above the current
                one that holds stk.toml, else the current one.
            profile: profile in stk.toml; default ``STK_ML_PROFILE``, else the file's ``project.profile``.
            flags: values from the command line; they win. A value of None counts as not given.
            environ: the environment; default ``os.environ``.

        Raises:
            DeclarationError: stk.toml is not TOML or holds an unknown key.
            UnknownNameError: no such profile.
            SettingError: an environment variable is set to nothing.
        """
        environ = os.environ if environ is None else environ
        root = Path(project or environ.get("STK_ML_PROJECT") or find_project(Path.cwd())).resolve()
        tables, chosen = _read_toml(root, profile or environ.get("STK_ML_PROFILE"))
        values: dict[str, str] = {}
        origins: dict[str, str] = {}
        for name, (default, _) in DEFAULTS.items():
            values[name], origins[name] = _one(name, default, flags or {}, environ, tables, chosen)
        values = {name: _absolute(name, value, root) for name, value in values.items()}
        return cls(
            project=root,
            profile=chosen,
            lake=values["lake"],
            tracking_uri=values["tracking_uri"],
            artifacts=Path(values["artifacts"]),
            cache=Path(values["cache"]),
            pipelines=Path(values["pipelines"]),
            vault=Path(values["vault"]),
            endpoints=Path(values["endpoints"]),
            telemetry=Path(values["telemetry"]),
            monitoring=Path(values["monitoring"]),
            schedules=Path(values["schedules"]),
            auth=values["auth"],
            token_issuer=values["token_issuer"],
            token_audience=values["token_audience"],
            token_keys=values["token_keys"],
            clock=values["clock"],
            lake_options={str(k): str(v) for k, v in tables.get("lake_options", {}).items()},
            origins=origins,
        )


def without_password(uri: str) -> str:
    """A URI without the user and password that it may hold, to be shown.

    Example:
        >>> without_password("https://me:secret@host/x"), without_password("sqlite:////x.db")
        ('https://host/x', 'sqlite:////x.db')
    """
    netloc = urlsplit(uri).netloc
    return uri.replace(netloc, netloc.rpartition("@")[2], 1) if netloc else uri


def find_project(start: Path) -> Path:
    """The first folder at or above ``start`` that holds stk.toml, else ``start``."""
    return next((folder for folder in (start, *start.parents) if (folder / "stk.toml").is_file()), start)


def _read_toml(root: Path, profile: str | None) -> tuple[dict[str, Any], str]:
    file = root / "stk.toml"
    if not file.is_file():
        return {}, profile or "laptop"
    try:
        document = tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise DeclarationError(f"not valid TOML: {error}", file=file) from error
    profiles = document.get("profile", {})
    chosen = profile or document.get("project", {}).get("profile", "laptop")
    if chosen not in profiles:
        if profile is None and not profiles:
            return {}, chosen
        raise UnknownNameError("profile", chosen, profiles)
    table = profiles[chosen]
    unknown = sorted(set(table) - set(DEFAULTS) - {"lake_options"})
    if unknown:
        line = next(
            (
                n
                for n, text in enumerate(file.read_text("utf-8").splitlines(), 1)
                if text.strip().startswith(unknown[0])
            ),
            None,
        )
        raise DeclarationError(
            f"unknown setting {unknown[0]!r} in profile {chosen!r}",
            file=file,
            line=line,
            hint=closest(unknown[0], DEFAULTS),
        )
    return table, chosen


def _one(
    name: str,
    default: str,
    flags: Mapping[str, str | None],
    environ: Mapping[str, str],
    table: Mapping[str, Any],
    profile: str,
) -> tuple[str, str]:
    flag = flags.get(name)
    if flag is not None:
        return flag, f"--{name.replace('_', '-')}"
    for variable in (f"STK_ML_{name.upper()}", ALIASES.get(name, "")):
        if variable and variable in environ:
            if not environ[variable].strip():
                raise SettingError(
                    f"{variable} is set to nothing", hint=f"unset {variable}, or give it a value: {DEFAULTS[name][1]}"
                )
            return environ[variable], variable
    if name in table:
        return str(table[name]), f"stk.toml [profile.{profile}]"
    return default, "default"


def _absolute(name: str, value: str, root: Path) -> str:
    if name in _LOCAL and value and "://" not in value:
        return str((root / value).resolve())
    if value.startswith("sqlite:///") and not value.startswith("sqlite:////"):
        return f"sqlite:///{(root / value.removeprefix('sqlite:///')).resolve()}"
    return value
