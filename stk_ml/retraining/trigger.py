"""Carries out a retrain that the governor has started: train behind the gate, canary, and back when it fares ill.

Each step is noted in the ledger before it begins. A process that is killed leaves a run in flight; the next one goes on
at that step, and the steps come to the same end when they are done twice: training is cached by content, a version is
registered once by its digest, a rollout that runs is gone on with, a champion is restored once.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal, Protocol

from stk_ml.contracts import ModelVersion, Registration
from stk_ml.errors import StkMlError
from stk_ml.model_spec import ModelSpec, instant
from stk_ml.retraining import policy, window
from stk_ml.retraining.ledger import RunLedger
from stk_ml.retraining.policy import Retrain
from stk_ml.retraining.window import TrainingWindow

#: ``none``: nothing serves the model, so there is nothing to watch.
Canary = Literal["promoted", "rolled_back", "stopped", "none"]


class Steps(Protocol):
    """What a retrain does to the world. Each may be called again after a kill."""

    def champion(self) -> int:
        """The version that is champion; 0 for none."""

    def train(self, run: Retrain, window: TrainingWindow) -> Registration:
        """Runs the training pipeline, gate included."""

    def canary(self, run: Retrain) -> tuple[Canary, str]:
        """Deploys ``run.version`` as a watched canary; how that ended, and why. ``stopped``: it does not answer all."""

    def restore(self, run: Retrain) -> None:
        """Makes ``run.champion`` the champion again, unless it is another's turn by now, and has it answer again.

        A run that failed before its version was noted has the version 0: then whatever is champion gives way.
        """


def execute(ledger: RunLedger, spec: ModelSpec, steps: Steps, *, clock: Callable[[], datetime]) -> Retrain | None:
    """Carries the run in flight to its end, from wherever it is.

    Args:
        ledger: of the model.
        spec: the declared model; the training window is moved to when the run was started.
        steps: what to do.
        clock: gives the time, with a zone.

    Returns:
        The run as it ended; None when none is in flight, or another living process works on it.

    Raises:
        StkMlError and whatever a step raises: the run is noted as failed before. An interrupt (Ctrl+C) leaves it in
            flight, to be gone on with.
    """
    with ledger.alone() as alone:
        run = ledger.state().running if alone else None
        if run is None:
            return None
        try:
            return _carry(ledger, run, spec, steps, clock)
        except Exception as error:
            _fail(ledger, run.key, error, steps, clock)
            raise


def _carry(ledger: RunLedger, run: Retrain, spec: ModelSpec, steps: Steps, clock: Callable[[], datetime]) -> Retrain:
    if run.step == "train":
        if run.champion < 0:
            # Noted before training: afterwards the registry no longer tells what this run has replaced.
            run = ledger.move(run.key, "train", champion=steps.champion(), now=clock())
        registration = steps.train(run, window.move(spec, instant(run.started)))
        made, reason = registration.version, registration.verdict.reason
        if not _promoted(made, run):
            return ledger.end(run.key, "refused", reason, now=clock(), version=made.version)
        run = ledger.move(run.key, "canary", version=made.version, reason=reason, now=clock())
    if run.step == "canary":
        # Data that breaks during a run speaks against what was learned and compared meanwhile.
        how, why = ("stopped", "") if _broken(ledger) else steps.canary(run)
        broken = _broken(ledger)
        if broken or how == "stopped":
            steps.restore(run)
            return ledger.end(run.key, "stopped", broken or why, now=clock())
        if how in ("promoted", "none"):
            return ledger.end(run.key, "promoted", f"{run.reason} {why}".strip(), now=clock())
        run = ledger.move(run.key, "restore", reason=why, now=clock())
    steps.restore(run)
    return ledger.end(run.key, "rolled_back", run.reason, now=clock())


def _broken(ledger: RunLedger) -> str:
    """Why the newest data is known to be broken; empty when it is not."""
    found = policy.broken_data(ledger.state())
    return found[1] if found else ""


def _promoted(made: ModelVersion, run: Retrain) -> bool:
    """Whether this run made the champion; after a kill the gate only says that the champion is the same model again."""
    return "champion" in made.aliases and made.version != run.champion


def _fail(ledger: RunLedger, key: str, error: Exception, steps: Steps, clock: Callable[[], datetime]) -> None:
    """Notes the failure; a champion that could not be deployed gives its place back first."""
    run = ledger.state().running
    if run is None or run.key != key:
        return
    reason = str(error) if isinstance(error, StkMlError) else f"{type(error).__name__}: {error}"
    try:
        if run.step != "train" or 0 < run.champion != steps.champion():
            steps.restore(run)
    except Exception as again:  # the run has ended all the same, and a person is told
        reason += f"; the champion before could not be made champion again: {again}"
    ledger.end(key, "failed", f"step {run.step}: {reason}", now=clock())
