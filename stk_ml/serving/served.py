"""One loaded deployment: its model, the decoder of its columns, its telemetry hook and what its answers say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stk_ml import model_spec
from stk_ml.artifact import profile
from stk_ml.artifact.predictor import Predictor
from stk_ml.artifact.profile import Profile
from stk_ml.endpoint_state import Deployment
from stk_ml.errors import IntegrityError, RequestError
from stk_ml.model_policies import ServingSpec
from stk_ml.serving.decoding.decoder import Decoder
from stk_ml.serving.examples import examples
from stk_ml.serving.limits import Limits
from stk_ml.serving.protocol import Hook

#: Largest difference between a golden row's stored score and what the loaded model gives.
TOLERANCE = 1e-9


class ServedModel:
    """A deployment that can answer: loaded, its seal checked, its golden rows replayed.

    Attributes:
        deployment: what the endpoint's state says of it.
        predictor: scores a matrix, or its own buffer of one row.
        decoder: from a body to rows.
        hook: takes what was scored.
        single: whether one row is scored in microseconds, so that it needs no thread.
        about: the end of a JSON answer, from the model's name on.
        examples: made-up records that it takes, for people; see :func:`stk_ml.serving.examples.examples`.
    """

    def __init__(
        self,
        deployment: Deployment,
        predictor: Predictor,
        decoder: Decoder,
        hook: Hook,
        examples: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.deployment, self.predictor, self.decoder, self.hook = deployment, predictor, decoder, hook
        self.examples = examples
        self.single = predictor.kind != "estimator"
        self.identity = {
            "name": deployment.model,
            "version": str(deployment.version),
            "digest": deployment.digest,
            "deployment": deployment.name,
        }
        self.about = b'"model":' + msgspec.json.encode(self.identity) + b"}"
        self.header = (b"azureml-model-deployment", deployment.name.encode())

    @classmethod
    def load(
        cls, deployment: Deployment, hook: Callable[[Deployment], Hook], limits: Limits, cache: Path | None = None
    ) -> ServedModel:
        """Loads a deployment and proves it.

        Args:
            deployment: with the folder of its artifact.
            hook: makes its telemetry hook, once it is proven.
            limits: of the worker.
            cache: where compiled scorers are kept; None for none.

        Raises:
            ArtifactError, IntegrityError: the artifact is not sound, or not the one that the state names.
        """
        folder = Path(deployment.folder)
        predictor = Predictor.load(folder, cache=cache)
        if deployment.digest and predictor.digest != deployment.digest:
            raise IntegrityError(
                f"{folder} holds the model {predictor.digest[:12]}, and {deployment.name} is to serve "
                f"{deployment.digest[:12]}"
            )
        difference = predictor.replay()
        if not difference <= TOLERANCE:
            raise IntegrityError(
                f"the golden rows of {folder} score differently here, by up to {difference:.3g}",
                hint="the libraries differ from those it was trained with; stk-ml doctor lists them",
            )
        decoder = Decoder(predictor.schema, policy(folder), max_rows=limits.rows)
        reference = Profile.load(folder) if (folder / profile.NAME).is_file() else None
        return cls(deployment, predictor, decoder, hook(deployment), examples(predictor.schema, reference))

    def answers_to(self, name: str, version: str) -> bool:
        """Whether this is that model, and that version when one is named."""
        return name == self.deployment.model and version in ("", str(self.deployment.version))

    def explanations(self, matrix: Any) -> list[dict[str, Any]]:
        """Per row, the expected value and each column's contribution to the raw score (SHAP values, log-odds).

        Raises:
            RequestError: 422; the model is a scikit-learn estimator.
        """
        if self.predictor.kind == "estimator":
            raise RequestError(
                "explanations are there for LightGBM models only",
                status=422,
                reason="explain",
                hint="leave out explain",
            )
        names = self.predictor.schema.names
        return [
            {"expected": row[-1], "contributions": dict(zip(names, row[:-1], strict=True))}
            for row in self.predictor.contributions(matrix).tolist()
        ]


def policy(folder: Path) -> ServingSpec:
    """What the model's own file says about values that break its columns; the defaults without a file."""
    file = folder / "spec.yml"
    return model_spec.load(file).serving if file.is_file() else ServingSpec()
