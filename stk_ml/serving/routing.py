"""Which deployment answers a request: by weight, and always the same one for the same request id."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from stk_ml.errors import RequestError, closest

if TYPE_CHECKING:
    from stk_ml.serving.served import ServedModel


class Routes:
    """The deployments that one worker holds, as of one revision of the endpoint. Never changed, only replaced.

    Args:
        served: loaded deployments.
        revision: of the endpoint state that they come from.
    """

    def __init__(self, served: Sequence[ServedModel] = (), revision: int = 0) -> None:
        self.served, self.revision = tuple(served), revision
        self.live = tuple(model for model in self.served if model.deployment.traffic)
        self.shadows = tuple(model for model in self.served if model.deployment.shadow)
        self.only = self.live[0] if len(self.live) == 1 and not self.shadows else None
        #: One entry per percent of the traffic.
        self._table = tuple(model for model in self.live for _ in range(model.deployment.traffic))

    def pick(self, request_id: bytes, deployment: bytes = b"") -> ServedModel:
        """The deployment for a request.

        Args:
            request_id: decides by its CRC-32, so a retry meets the same deployment.
            deployment: a name that the caller asks for (header ``azureml-model-deployment``); it wins.

        Raises:
            RequestError: 404 when there is no such deployment, 503 when no deployment takes traffic.
        """
        if deployment:
            return self.named(deployment.decode("latin-1"))
        if not self._table:
            raise RequestError("no deployment takes traffic", status=503, reason="no_deployment")
        return self._table[percent(request_id)]

    def named(self, name: str) -> ServedModel:
        """The deployment of that name; RequestError 404 when there is none."""
        for model in self.served:
            if model.deployment.name == name:
                return model
        names = [model.deployment.name for model in self.served]
        raise RequestError(
            f"no deployment {name[:64]!r} here", status=404, reason="deployment", hint=closest(name[:64], names)
        )

    def of_model(self, name: str, version: str, request_id: bytes, deployment: bytes = b"") -> ServedModel:
        """As :meth:`pick`, among the deployments of one model (and version, when it is given).

        Raises:
            RequestError: 404 when that model or version is not served here.
        """
        chosen = self.pick(request_id, deployment) if self._table or deployment else None
        if chosen and chosen.answers_to(name, version):
            return chosen
        fitting = [model for model in (*self.live, *self.served) if model.answers_to(name, version)]
        if not fitting:
            shown = f"{name[:64]}:{version[:16]}" if version else name[:64]
            known = {model.deployment.model for model in self.served}
            raise RequestError(
                f"model {shown!r} is not served here", status=404, reason="model", hint=closest(name[:64], known)
            )
        return fitting[0]


def percent(request_id: bytes) -> int:
    """A number from 0 to 99 that depends on the request id alone.

    Example:
        >>> percent(b"a"), percent(b"a"), percent(b"b")
        (7, 7, 81)
    """
    return zlib.crc32(request_id) % 100
