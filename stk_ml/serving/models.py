"""Where a worker's routes come from: a fixed list of deployments, or an endpoint's folder that it follows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from stk_ml import contracts
from stk_ml.artifact import compiled
from stk_ml.endpoint_state import Deployment, EndpointState
from stk_ml.errors import StkMlError
from stk_ml.serving.limits import Limits
from stk_ml.serving.protocol import Hook
from stk_ml.serving.routing import Routes
from stk_ml.serving.served import ServedModel

log = logging.getLogger("stk_ml.serving")
STATE = "endpoint.json"


class LoadedModels:
    """The loaded deployments of a worker.

    Args:
        hook: makes the telemetry hook of a deployment.
        limits: of the worker.
        cache: where the compiled scorer is kept, or made; None for LightGBM's own code.
        release: called with the hook of a deployment that is no longer served.
    """

    def __init__(
        self,
        hook: Callable[[Deployment], Hook],
        limits: Limits,
        cache: Path | None = None,
        release: Callable[[Hook], None] = lambda hook: None,
    ) -> None:
        self._hook, self._limits, self._cache, self._release = hook, limits, cache, release
        if cache is not None:
            compiled.build(cache)
        self.routes = Routes()
        self.trouble = ""

    def serve(self, deployments: Sequence[Deployment], revision: int) -> None:
        """Loads what is new, keeps what is the same, and then replaces the routes in one step.

        Raises:
            StkMlError: a deployment cannot be loaded; then nothing has changed.
        """
        before = {_what(model.deployment): model for model in self.routes.served}
        served = []
        for deployment in deployments:
            kept = before.get(_what(deployment))
            if kept is None:
                served.append(ServedModel.load(deployment, self._hook, self._limits, self._cache))
            else:
                served.append(ServedModel(deployment, kept.predictor, kept.decoder, kept.hook, kept.examples))
        self.routes = Routes(served, revision)
        kept_hooks = [model.hook for model in served]
        for model in before.values():
            if model.hook not in kept_hooks:
                self._release(model.hook)


class EndpointFolder:
    """Follows an endpoint's state file.

    Args:
        folder: of the endpoint.
        models: what is to serve it.
    """

    def __init__(self, folder: Path, models: LoadedModels) -> None:
        self.folder, self.models = folder, models
        self._seen: tuple[int, int] = (0, 0)

    def changed(self) -> bool:
        """Whether the state was replaced since it was last looked at."""
        try:
            found = (self.folder / STATE).stat()
        except FileNotFoundError:
            return False
        return (found.st_mtime_ns, found.st_ino) != self._seen

    def follow(self) -> None:
        """Serves the newest state. One that cannot be served is told in ``models.trouble``, and the old one stays."""
        try:
            found = (self.folder / STATE).stat()
            state = contracts.read(EndpointState, self.folder / STATE)
            self._seen = found.st_mtime_ns, found.st_ino
            self.models.serve(state.deployments, state.revision)
            self.models.trouble = ""
            log.info("serves revision %d of endpoint %s", state.revision, state.name)
        except (StkMlError, OSError) as error:
            self.models.trouble = str(error)
            log.error("the newest state of %s cannot be served: %s", self.folder.name, error)


def _what(deployment: Deployment) -> tuple[str, str, str, int, bool]:
    """What makes a loaded deployment the same: all but its share of the traffic."""
    return deployment.name, deployment.digest, deployment.folder, deployment.version, deployment.shadow
