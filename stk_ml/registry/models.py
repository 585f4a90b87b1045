"""Registered models: MLflow on SQLite on a laptop, Azure ML in the cloud, through the same calls.

A model goes up as files (``log_artifacts``) and becomes a version by ``create_model_version``: MLflow's newer way,
``log_model`` with its logged models, is not served by Azure ML.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stk_ml import contracts
from stk_ml.artifact import manifest
from stk_ml.contracts import Champion, Dataset, Evaluation, GateVerdict, ModelVersion
from stk_ml.errors import RegistryError, UnknownNameError
from stk_ml.model_spec import ModelSpec
from stk_ml.registry import logged
from stk_ml.registry import tags as tagging
from stk_ml.registry.aliases import Aliases, aliases
from stk_ml.registry.details import Compared, ModelDetails, compared
from stk_ml.registry.runs import DIGEST_TAG, Runs
from stk_ml.registry.store import Store

_REF = re.compile(r"(?P<name>[^@:]+)(?:@(?P<alias>[^@:]+)|:(?P<version>\d+))?")


class ModelRegistry:
    """The registered models of one MLflow store. Making one is cheap; MLflow is imported on first use.

    Args:
        tracking_uri: MLflow store: ``sqlite:////folder/mlflow.db``, an MLflow server or ``azureml://...``.
        artifacts: folder or URI where artifacts go when the store is SQLite; a server decides that by itself.
        alias_store: where aliases are kept; default what fits the store.

    Raises (all methods):
        RegistryError: MLflow or the disk refused; the message says why.
        UnknownNameError: there is no such model, version or alias.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     registry = ModelRegistry(f"sqlite:///{folder}/mlflow.db", f"{folder}/artifacts")
        ...     registry.names(), registry.champion("flight-delay")
        ([], Champion(name='flight-delay', version=0, digest=''))
    """

    def __init__(
        self, tracking_uri: str, artifacts: Path | str, *, alias_store: Callable[[Store], Aliases] | None = None
    ) -> None:
        self._store = Store(tracking_uri)
        self._runs = Runs(self._store, artifacts)
        self._aliases = alias_store(self._store) if alias_store else aliases(self._store)

    def register(
        self,
        spec: ModelSpec,
        artifact: Path,
        *,
        evaluation: Path | None = None,
        dataset: Dataset | None = None,
        tags: Mapping[str, str] = {},
        params: Mapping[str, str] = {},
    ) -> ModelVersion:
        """Logs one run with the model and registers it as a new version.

        The same model (by the digest of its artifact) is registered once: the version that there is comes back and
        nothing is logged. A registration that was killed is simply done again.

        Args:
            spec: the declared model; its name is that of the experiment and of the registered model.
            artifact: folder of the model, with its manifest.
            evaluation: folder with ``evaluation.json`` and what belongs to it.
            dataset: what it was trained on, for lineage.
            tags: more tags, such as ``code_version`` and ``lock_digest``.
            params: more parameters of the run.

        Raises:
            IntegrityError, ArtifactError: the artifact is not what its manifest says.
            StorageError: the evaluation cannot be read.
        """
        digest = manifest.verify(artifact).digest
        found = contracts.read(Evaluation, evaluation / "evaluation.json") if evaluation else None
        with self._store.exclusive() as alone:
            experiment = self._runs.experiment(spec.name)
            known = self._versions(spec.name)
            self._runs.sweep(experiment, {version.run_id for version in known}, "" if alone else digest)
            same = next((version for version in known if version.digest == digest), None)
            if same is not None:
                return same
            if not known:
                self._runs.ensure_model(spec.name)
            facts = _facts(digest, found, dataset, tags)
            numbers = logged.metrics(found) if found else []
            with self._runs.run(experiment, f"{spec.name}-{digest[:8]}", facts) as run:
                self._runs.log(run.run_id, logged.params(spec, params), numbers)
                self._client.log_artifacts(run.run_id, str(artifact), "model")
                if evaluation:
                    self._client.log_artifacts(run.run_id, str(evaluation), "evaluation")
                source = f"{run.artifact_uri}/model"
                made = self._client.create_model_version(spec.name, source, run.run_id, tags=facts)
        return _version(made, {})

    def names(self) -> list[str]:
        """The registered models, sorted."""
        return sorted(model.name for model in self._pages("search_registered_models"))

    def versions(self, name: str) -> list[ModelVersion]:
        """The versions of a model, newest first."""
        found = self._versions(name)
        if not found and name not in self.names():
            raise UnknownNameError("model", name, self.names())
        return found

    def version(self, ref: str) -> ModelVersion:
        """One version of a model.

        Args:
            ref: ``name`` (its champion, else its newest), ``name@champion`` or ``name:3``.
        """
        parts = _REF.fullmatch(ref)
        if not parts:
            raise UnknownNameError("model version", ref, hint="write name, name@champion or name:3")
        name, alias, number = parts["name"], parts["alias"], parts["version"]
        known = self.versions(name)
        by_alias = {alias: version for version in known for alias in version.aliases}
        by_number = {str(version.version): version for version in known}
        if alias:
            return _one(f"alias of {name}", alias, by_alias)
        if number:
            return _one(f"version of {name}", str(int(number)), by_number)
        if not known:
            raise UnknownNameError("version of the model", name, hint="it has no versions; train it")
        return by_alias.get(tagging.CHAMPION, known[0])

    def download(self, ref: str | ModelVersion) -> Path:
        """The artifact's folder on this machine; not a copy when the artifacts are kept in a folder."""
        version = self.version(ref) if isinstance(ref, str) else ref
        source = self._client.get_model_version(version.name, str(version.version)).source
        try:
            return self._store.download(source)
        except (RegistryError, UnknownNameError) as error:
            raise RegistryError(
                f"the files of {version.name}:{version.version} are not at {source}",
                hint="was the folder of the artifacts moved or deleted? train the model again",
            ) from error

    def champion(self, name: str) -> Champion:
        """The champion of a model; version 0 when it has none, or there is no such model."""
        try:
            number = self._aliases.read(name).get(tagging.CHAMPION, 0)
        except UnknownNameError:
            return Champion(name)
        if not number:
            return Champion(name)
        version = self._client.get_model_version(name, str(number))
        return Champion(name, number, version.tags.get(DIGEST_TAG, ""))

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Points an alias at a version."""
        self._aliases.move(name, alias, self._numbered(name, version).version)

    def tag(self, name: str, version: int, key: str, value: str) -> None:
        """Sets a tag of a version; an empty value removes it."""
        self._tag(self._numbered(name, version), {key: value})

    def promote(
        self, name: str, version: int, *, verdict: GateVerdict | None = None, why: str = "", by: str = "", at: str = ""
    ) -> ModelVersion:
        """Makes a version the champion; the old one is tagged ``replaced_by``. Can be repeated without harm.

        Args:
            name: of the model.
            version: its number.
            verdict: of the gate, kept as tags.
            why: kept as a tag, for the audit.
            by: who promotes; kept as a tag.
            at: when, ISO 8601; kept as a tag.
        """
        audit = {tagging.PROMOTED_WHY: why, tagging.PROMOTED_BY: by, tagging.PROMOTED_AT: at}
        with self._store.exclusive():
            self._promote(self._numbered(name, version), (tagging.of_verdict(verdict) if verdict else {}) | audit)
        return self._numbered(name, version)

    def settle(
        self, model: ModelSpec | str, version: int, verdict: GateVerdict, *, against: Champion | None = None
    ) -> ModelVersion:
        """Acts on the gate's verdict: promotes the version, or makes it the challenger.

        Args:
            model: its spec or name.
            version: the number of the version that the gate judged.
            verdict: what it decided; kept as tags. After ``same`` nothing changes.
            against: the champion that it was compared with. When another has been promoted since (two trainings at
                once), the version becomes the challenger whatever the verdict, for it was not compared with that one.
        """
        name = model if isinstance(model, str) else model.name
        if verdict.outcome == "same":
            return self._numbered(name, version)
        with self._store.exclusive():
            judged = self._numbered(name, version)
            champion = self._aliases.read(name).get(tagging.CHAMPION, 0)
            facts = tagging.of_verdict(verdict)
            overtaken = against is not None and champion not in (against.version, version)
            if verdict.promote and not overtaken:
                self._promote(judged, facts)
            else:
                late = (
                    f"compared with version {against.version}, but {champion} is champion now"
                    if overtaken and against
                    else ""
                )
                self._tag(judged, facts | {tagging.OVERTAKEN: late})
                if champion != version:
                    self._aliases.move(name, tagging.CHALLENGER, version)
        return self._numbered(name, version)

    def show(self, ref: str | ModelVersion) -> ModelDetails:
        """A version with its metrics, tags, parameters and place."""
        version = self.version(ref) if isinstance(ref, str) else ref
        data = self._client.get_run(version.run_id).data if version.run_id else None
        return ModelDetails(
            version=version,
            metrics=dict(sorted(data.metrics.items())) if data else {},
            tags=version.tags,
            params=dict(sorted(data.params.items())) if data else {},
            where=self._source(version),
        )

    def log_report(
        self,
        experiment: str,
        name: str,
        files: Sequence[Path],
        *,
        metrics: Mapping[str, float] = {},
        tags: Mapping[str, str] = {},
    ) -> str:
        """Logs files as a run, once per name; returns the run's id.

        Args:
            experiment: made when there is none.
            name: of the run, unique in its experiment.
            files: go to its artifacts.
            metrics: by name.
            tags: by name.
        """
        which = self._runs.experiment(experiment)
        done = self._client.search_runs([which], f"attributes.run_name = '{name}' and attributes.status = 'FINISHED'")
        if done:
            return str(done[0].info.run_id)
        with self._runs.run(which, name, tagging.stored(tags)) as run:
            self._runs.log(run.run_id, {}, [logged.Logged(tagging.key(key), value) for key, value in metrics.items()])
            for file in files:
                self._client.log_artifact(run.run_id, str(file))
        return str(run.run_id)

    def compare(self, a: str | ModelVersion, b: str | ModelVersion) -> list[Compared]:
        """The logged metrics of two versions side by side, the bounds of their intervals included."""
        return compared(self.show(a).metrics, self.show(b).metrics)

    @property
    def _client(self) -> Any:
        return self._store.client

    def _versions(self, name: str) -> list[ModelVersion]:
        """Newest first; none when there is no such model."""
        if "'" in name:
            return []
        found = self._pages("search_model_versions", f"name = '{name}'")
        moving = self._aliases.read(name) if found else {}
        return sorted((_version(each, moving) for each in found), key=lambda version: -version.version)

    def _numbered(self, name: str, version: int) -> ModelVersion:
        return self.version(f"{name}:{version}")

    def _source(self, version: ModelVersion) -> str:
        return str(self._client.get_model_version(version.name, str(version.version)).source)

    def _pages(self, method: str, *args: Any) -> list[Any]:
        """All results of one of MLflow's paged searches."""
        page = getattr(self._client, method)(*args)
        found = list(page)
        while page.token:
            page = getattr(self._client, method)(*args, page_token=page.token)
            found += page
        return found

    def _promote(self, version: ModelVersion, facts: Mapping[str, object]) -> None:
        """What to write before the alias moves, and after it: killed in between, the next call ends the same."""
        name, number = version.name, version.version
        moving = self._aliases.read(name)
        old = moving.get(tagging.CHAMPION, 0)
        replaced = version.tags.get(tagging.REPLACES, "")
        if old != number:
            replaced = str(old or "")
            facts = {**facts, tagging.REPLACES: replaced, tagging.REPLACED_BY: ""}
        self._tag(version, {**facts, tagging.OVERTAKEN: ""})
        self._aliases.move(name, tagging.CHAMPION, number)
        if moving.get(tagging.CHALLENGER) == number:
            self._aliases.drop(name, tagging.CHALLENGER)
        if replaced:
            self._tag(self._numbered(name, int(replaced)), {tagging.REPLACED_BY: str(number)})

    def _tag(self, version: ModelVersion, facts: Mapping[str, object]) -> None:
        """Writes tags that differ from what is there; an empty value empties the tag."""
        wanted = {name: tagging.bounded(value) for name, value in facts.items()}
        for name, value in wanted.items():
            if version.tags.get(name, "") != value:
                key = tagging.key(tagging.PREFIX + name)
                self._client.set_model_version_tag(version.name, str(version.version), key, value)


def _facts(
    digest: str, evaluation: Evaluation | None, dataset: Dataset | None, more: Mapping[str, str]
) -> dict[str, str]:
    """The tags of a run and of its version."""
    return tagging.stored(
        {
            **(tagging.of_dataset(dataset) if dataset else {}),
            **(tagging.of_evaluation(evaluation) if evaluation else {}),
            **more,
            tagging.DIGEST: digest,
        }
    )


def _version(found: Any, moving: Mapping[str, int]) -> ModelVersion:
    """Ours for MLflow's, with the aliases that point at it."""
    number = int(found.version)
    created = datetime.fromtimestamp(found.creation_timestamp / 1000, UTC)
    return ModelVersion(
        name=found.name,
        version=number,
        digest=found.tags.get(DIGEST_TAG, ""),
        run_id=found.run_id or "",
        aliases=tuple(sorted(alias for alias, version in moving.items() if version == number)),
        created=created.isoformat(timespec="seconds").replace("+00:00", "Z"),
        tags=tagging.shown(found.tags),
    )


def _one(kind: str, name: str, known: Mapping[str, ModelVersion]) -> ModelVersion:
    if name not in known:
        raise UnknownNameError(kind, name, known)
    return known[name]
