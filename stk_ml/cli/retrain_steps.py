"""What a retrain does on this machine: train with a moved window, roll out as a canary, put the champion back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stk_ml.cli.output import Output
from stk_ml.errors import MissingLibraryError

if TYPE_CHECKING:
    from stk_ml.contracts import Registration
    from stk_ml.deployment.rollout import Rollout, RolloutPolicy
    from stk_ml.model_spec import ModelSpec
    from stk_ml.retraining.policy import Retrain
    from stk_ml.retraining.trigger import Canary
    from stk_ml.retraining.window import TrainingWindow
    from stk_ml.workspace import Workspace


@dataclass(frozen=True)
class WorkspaceSteps:
    """The steps of a retrain through a project's services; see :class:`stk_ml.retraining.trigger.Steps`.

    Attributes:
        workspace: the project.
        spec, file: the declared model and its file.
        folder: MONITORING/MODEL; derived model files go to ``runs/ID/``.
        policy: what a canary must show; None: nothing is deployed.
        out: where progress is shown.
        clock: unix seconds; a canary lasts by it.
        wait: what is done between two looks at a canary.
    """

    workspace: Workspace
    spec: ModelSpec
    file: Path
    folder: Path
    policy: RolloutPolicy | None
    out: Output
    clock: Callable[[], float] = time.time
    wait: Callable[[float], None] = time.sleep

    def champion(self) -> int:
        """The version that is champion; 0 for none."""
        return self.workspace.registry.champion(self.spec.name).version

    def train(self, run: Retrain, window: TrainingWindow) -> Registration:
        """Runs pipelines/train.yml with the derived model file."""
        from stk_ml.cli.events import Watcher
        from stk_ml.model_spec import instant
        from stk_ml.retraining.window import derive

        derived = derive(self.file, window.split, self.folder / "runs" / run.id / self.file.name)
        self.out.say(f"trains as of {window.now}: {window.reason}")
        with Watcher(self.out) as watcher:
            training = self.workspace.train(derived, now=instant(window.now), on_event=watcher)
        verdict = training.registration.verdict
        self.out.say(f"gate: {verdict.outcome}: {verdict.reason}")
        return training.registration

    def canary(self, run: Retrain) -> tuple[Canary, str]:
        """Rolls out on each endpoint that serves the model; the first that rolls back ends it for all.

        A rollout that a person has stopped counts as promoted where that person gave the version all traffic.
        """
        if self.policy is None:
            return "none", "Not deployed, as asked."
        told = []
        for endpoint in self._endpoints():
            rollout = self._roll(run, endpoint, self.policy)
            if rollout is not None and rollout.status != "promoted" and not self._answers(endpoint, rollout.challenger):
                how: Canary = "rolled_back" if rollout.status == "rolled_back" else "stopped"
                return how, f"endpoint {endpoint}: {rollout.reason}"
            told.append(f"Answers all requests of endpoint {endpoint}.")
        return ("promoted", " ".join(told)) if told else ("none", "No endpoint serves the model.")

    def restore(self, run: Retrain) -> None:
        """Puts the champion before the run back where the run's version is: in the registry, and at the endpoints."""
        registry, name = self.workspace.registry, self.spec.name
        if run.champion <= 0:
            return
        if registry.champion(name).version == (run.version or registry.champion(name).version) != run.champion:
            why = f"retrain {run.id} did not come to a good end"
            registry.promote(name, run.champion, why=why, by="stk-ml retrain", at=run.updated)
        for endpoint in self._endpoints():
            answering = [each for each in self.workspace.endpoints.status(endpoint).state.deployments if each.traffic]
            if run.version and any(each.model == name and each.version == run.version for each in answering):
                self.out.say(f"endpoint {endpoint}: goes back to the version before")
                self.workspace.endpoints.rollback(endpoint, progress=self.out.say)

    def _answers(self, endpoint: str, deployment: str) -> bool:
        from stk_ml.cli import deploy

        return deploy.answers_everyone(self.workspace.endpoints, endpoint, deployment)

    def _endpoints(self) -> Iterator[str]:
        manager = self.workspace.endpoints
        for name in manager.names():
            deployments = manager.status(name).state.deployments
            if any(each.traffic and each.model == self.spec.name for each in deployments):
                yield name

    def _roll(self, run: Retrain, endpoint: str, policy: RolloutPolicy) -> Rollout | None:
        """The rollout as it ended; None when the version answers everyone already."""
        from importlib.util import find_spec

        from stk_ml.cli import deploy

        if find_spec("fastapi") is None:
            raise MissingLibraryError("fastapi", extra="serving", need="the scoring app")
        manager, registry = self.workspace.endpoints, self.workspace.registry
        version = registry.version(f"{self.spec.name}:{run.version}")
        chosen = deploy.Chosen(version.name, version.version, version.digest, registry.download(version))
        name = deploy.deployment_name(manager, endpoint, chosen)
        before = manager.status(endpoint).rollout
        if before and before.challenger == name and before.status != "running":
            return before  # killed between its end and our note of it
        if deploy.answers_everyone(manager, endpoint, name):
            return None
        if before is None or before.challenger != name:
            artifact, model, number, digest = chosen.artifact, chosen.model, chosen.version, chosen.digest
            manager.deploy(endpoint, artifact, model, number, digest, traffic=0, progress=self.out.say)
        return deploy.roll(
            self.workspace, endpoint, name, policy, self.out, watch=True, clock=self.clock, wait=self.wait
        )
