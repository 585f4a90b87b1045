"""Experiments and runs of the registry in MLflow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stk_ml.errors import RegistryError, StkMlError
from stk_ml.registry import tags
from stk_ml.registry.logged import Logged
from stk_ml.registry.store import Store

#: The tag, as stored, that tells our runs and versions from others.
DIGEST_TAG = tags.PREFIX + tags.DIGEST


class Runs:
    """The runs that registrations log.

    Args:
        store: the MLflow store.
        artifacts: folder or URI for artifacts when the store is SQLite; a server has its own.
    """

    def __init__(self, store: Store, artifacts: Path | str) -> None:
        self._store, self._artifacts = store, artifacts

    @property
    def _client(self) -> Any:
        return self._store.client

    def experiment(self, name: str) -> str:
        """The id of the experiment of that name, made when there is none."""
        found = self._client.get_experiment_by_name(name)
        if found is None:
            place = {"artifact_location": _child(self._artifacts, name)} if self._store.database else {}
            with _unless_exists():
                return str(self._client.create_experiment(name, **place))
            found = self._client.get_experiment_by_name(name)
        if found.lifecycle_stage != "active":
            raise RegistryError(
                f"the experiment {name!r} has been deleted in MLflow",
                hint=f"mlflow experiments restore --experiment-id {found.experiment_id}",
            )
        return str(found.experiment_id)

    def ensure_model(self, name: str) -> None:
        """Makes the registered model when there is none."""
        with _unless_exists():
            self._client.create_registered_model(name)

    def sweep(self, experiment: str, registered: set[str], digest: str) -> None:
        """Ends the runs that a killed registration left running: finished when they became a version, else killed.

        Without a lock another process may be logging right now; then only runs of the same ``digest`` are looked at.
        """
        which = f"= '{digest}'" if digest else "LIKE '%'"
        left = f"attributes.status = 'RUNNING' and tags.`{DIGEST_TAG}` {which}"
        for run in self._client.search_runs([experiment], left):
            status = "FINISHED" if run.info.run_id in registered else "KILLED"
            self._client.set_terminated(run.info.run_id, status)

    def log(self, run: str, params: Mapping[str, str], metrics: list[Logged]) -> None:
        """Logs parameters and metrics in one go."""
        from mlflow.entities import Metric, Param

        self._client.log_batch(run, [Metric(*metric) for metric in metrics], [Param(*item) for item in params.items()])

    @contextlib.contextmanager
    def run(self, experiment: str, name: str, facts: Mapping[str, str]) -> Iterator[Any]:
        """A new run's info; the run ends as finished, or as failed when an error passes."""
        made = self._client.create_run(experiment, run_name=name, tags=dict(facts)).info
        try:
            yield made
        except BaseException:
            with contextlib.suppress(StkMlError):
                self._client.set_terminated(made.run_id, "FAILED")
            raise
        self._client.set_terminated(made.run_id, "FINISHED")


def _child(folder: Path | str, name: str) -> str:
    """The URI of a folder below a folder or URI."""
    return f"{str(folder).rstrip('/')}/{name}" if "://" in str(folder) else (Path(folder).absolute() / name).as_uri()


@contextlib.contextmanager
def _unless_exists() -> Iterator[None]:
    """Passes over "exists already": another process was quicker, which is as good."""
    try:
        yield
    except RegistryError as error:
        if getattr(error.__cause__, "error_code", "") != "RESOURCE_ALREADY_EXISTS":
            raise
