"""A model as a YAML file: what it predicts, from which data, how it is split, learned, gated, watched and retrained.

Every stage reads the same :class:`ModelSpec`. A file holds, for example::

    name: flight-delay
    problem: binary
    data:
      spine: departures            # the view with one row per prediction
      entity: [flight_id]
      as_of: as_of                 # when the prediction is made
      target: late
      label_time: label_time       # when the label became known
      label_delay: 1d              # embargo between the splits
      features:
        - view: plane
          on: [tailnum]
          lookback: 365d
    split: {validation_from: 2013-06-01, test_from: 2013-07-01}
    gate: {metric: auc, floor: 0.65}
"""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec

from stk_ml import declarations
from stk_ml.contracts import Problem
from stk_ml.errors import UnknownNameError, closest
from stk_ml.model_policies import EvaluationSpec, GateSpec, MonitorSpec, RetrainSpec, ServingSpec

METRICS = {"binary": ("auc", "log_loss", "brier", "average_precision"), "regression": ("mae", "rmse", "r2")}
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class FeatureUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One feature view that the model uses.

    Attributes:
        view: name of the view, pipelines/features/VIEW.sql.
        on: columns of the spine that match the view's entity, in its order; default the same names.
        columns: which of its columns; default all that are not entity or times.
        lookback: how old the newest known row may be (``30d``); older counts as missing. Default: no limit.
        prefix: put before its column names, when two views share a name.
    """

    view: str
    on: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    lookback: str = ""
    prefix: str = ""


class DataSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the rows come from: either ``spine`` and ``features``, or one flat ``table``.

    Attributes:
        target: the column to predict.
        spine: the view with one row per prediction: entity, as_of, target, label_time and its own features.
        table: a lake table (``zone.table``) or a CSV or Parquet file, instead of a spine.
        entity: columns that name a row; unique together with as_of.
        as_of: column with the time the prediction is made; empty when the data has no time.
        label_time: column with the time the label became known; default as_of plus label_delay.
        label_delay: how long labels usually take (``36h``); the embargo between the splits.
        positive: the value of the target that counts as 1 (binary); default the larger of the two.
        features: the feature views.
        exclude: columns of the spine or table that are not features.
        keep: columns kept for slices in reports, not features.
    """

    target: str
    spine: str = ""
    table: str = ""
    entity: tuple[str, ...] = ()
    as_of: str = ""
    label_time: str = ""
    label_delay: str = "0d"
    positive: str | int | float | bool | None = None
    features: tuple[FeatureUse, ...] = ()
    exclude: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()


class SplitSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the rows are split. By time: dates, or fractions of the time-ordered rows. Without ``data.as_of``: at random.

    Attributes:
        validation_from, test_from, until: dates or times (UTC), each the first instant that no longer belongs to
            the part before it. Give both or neither of the first two.
        start: rows before it are left out.
        validation, test: fractions of the rows, used when no dates are given.
        seed: of the random split.
    """

    validation_from: str = ""
    test_from: str = ""
    until: str = ""
    start: str = ""
    validation: float = 0.15
    test: float = 0.2
    seed: int = 7


class LearnerSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What learns.

    Attributes:
        estimator: ``lightgbm``, ``auto`` (FLAML within time_budget), an import path of a scikit-learn estimator
            (``sklearn.linear_model.LogisticRegression``), or ``module:function`` returning one.
        params: its parameters, as the library names them.
        early_stopping: rounds without gain on the validation rows before LightGBM stops; 0 for never.
        refit: fit again on train and validation rows together with the number of rounds found (LightGBM).
        time_budget: seconds that ``auto`` may search.
        seed: of everything random.
        threads: at most so many; 0 for all cores.
    """

    estimator: str = "lightgbm"
    params: dict[str, Any] = {}
    early_stopping: int = 50
    refit: bool = True
    time_budget: float = 60.0
    seed: int = 7
    threads: int = 0


class ModelSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One declared model; see the module's docstring for a file.

    Attributes:
        name: lower case with hyphens; the name in the registry.
        problem: binary or regression.
        data, split, learner, evaluation, gate, serving, monitor, retrain: see each class.
        calibration: how scores become probabilities: sigmoid, isotonic or none (binary only).
        description, owner: for people.
    """

    name: str
    problem: Problem
    data: DataSpec
    split: SplitSpec = SplitSpec()
    learner: LearnerSpec = LearnerSpec()
    calibration: Literal["sigmoid", "isotonic", "none"] = "sigmoid"
    evaluation: EvaluationSpec = EvaluationSpec()
    gate: GateSpec = GateSpec()
    serving: ServingSpec = ServingSpec()
    monitor: MonitorSpec = MonitorSpec()
    retrain: RetrainSpec = RetrainSpec()
    description: str = ""
    owner: str = ""

    @property
    def primary(self) -> str:
        """The primary metric: the gate's, else the first of the problem."""
        return self.gate.metric or METRICS[self.problem][0]

    @property
    def timed(self) -> bool:
        """Whether rows have a time, so that splits are by time."""
        return bool(self.data.as_of)


def load(file: str | Path, *, shown: str | None = None) -> ModelSpec:
    """Reads and checks a model file.

    Args:
        file: a YAML file.
        shown: its name in errors.

    Raises:
        DeclarationError: with the line and a hint, for whatever is wrong.
    """
    declared = declarations.read(file, shown=shown)
    return check(declarations.decode(declared, ModelSpec), declared)


def find(model: str, pipelines: Path) -> Path:
    """The file of a model: MODEL itself when it is a path to a YAML file, else pipelines/models/MODEL.yml.

    Raises:
        UnknownNameError: there is no such model.
    """
    if model.endswith((".yml", ".yaml")) or "/" in model:
        if Path(model).is_file():
            return Path(model)
        raise UnknownNameError("model file", model, hint="give a path to a YAML file, or the name of a model")
    file = pipelines / "models" / f"{model}.yml"
    if not file.is_file():
        raise UnknownNameError(
            "model",
            model,
            names(pipelines),
            hint="" if names(pipelines) else f"there are none in {file.parent}; stk-ml init lays out an example",
        )
    return file


def names(pipelines: Path) -> list[str]:
    """The models that are declared, sorted."""
    return sorted(file.stem for file in (pipelines / "models").glob("*.yml"))


def check(spec: ModelSpec, declared: declarations.Declared) -> ModelSpec:
    """What a type cannot say. Raises DeclarationError at the line of the first mistake; returns ``spec``."""
    data, split, gate = spec.data, spec.split, spec.gate
    if not _NAME.fullmatch(spec.name):
        raise declared.error(
            f"name {spec.name!r} is not lower case words with hyphens", ("name",), hint="for example flight-delay"
        )
    if bool(data.spine) == bool(data.table):
        raise declared.error(
            "data needs either spine or table",
            ("data",),
            hint="spine: a view of pipelines/features; table: a lake table or a file",
        )
    if data.features and not data.spine:
        raise declared.error(
            "data.features needs a spine", ("data", "features"), hint="a flat table brings its own columns"
        )
    if data.spine and not (data.as_of and data.entity):
        raise declared.error(
            "a spine needs entity and as_of", ("data",), hint="as_of is the column with the time of the prediction"
        )
    for name in (data.target, *data.entity, data.as_of, data.label_time):
        if name and name in data.exclude:
            raise declared.error(f"{name!r} is excluded and used", ("data", "exclude"))
    times = {"as_of": data.as_of, "label_time": data.label_time}
    for role, name in times.items():
        if name and name == data.target:
            raise declared.error(f"the target {name!r} is also {role}", ("data", role))
    if data.target in data.entity:
        raise declared.error(f"the target {data.target!r} is also an entity column", ("data", "entity"))
    for index, use in enumerate(data.features):
        if data.target in use.columns and not use.prefix:
            raise declared.error(
                f"the target {data.target!r} is among the features of view {use.view!r}",
                ("data", "features", index, "columns"),
            )
        _duration(declared, use.lookback, ("data", "features", index, "lookback"))
    _duration(declared, data.label_delay, ("data", "label_delay"))
    _duration(declared, gate.window, ("gate", "window"))
    _duration(declared, spec.monitor.window, ("monitor", "window"))
    if duration(spec.monitor.window) % timedelta(minutes=15):
        told = f"{spec.monitor.window!r} is not made of quarters of an hour, by which telemetry is kept"
        raise declared.error(f"monitor.window: {told}", ("monitor", "window"))
    _check_retrain(spec.retrain, declared)
    _check_split(spec, declared)
    known = METRICS[spec.problem]
    if spec.primary not in known:
        raise declared.error(
            f"gate.metric {spec.primary!r} is no metric of a {spec.problem} model",
            ("gate", "metric"),
            hint=closest(spec.primary, known),
        )
    if spec.learner.time_budget <= 0:
        raise declared.error("learner.time_budget must be more than 0 seconds", ("learner", "time_budget"))
    if gate.margin < 0:
        raise declared.error(
            "gate.margin may not be negative", ("gate", "margin"), hint="0 promotes only what is better"
        )
    for at, level in ((("gate", "level"), gate.level), (("evaluation", "level"), spec.evaluation.level)):
        if not 0.5 <= level < 1:
            raise declared.error(f"{'.'.join(at)} must be at least 0.5 and less than 1", at, hint="0.95 is usual")
    if min(split.validation, split.test) <= 0 or split.validation + split.test >= 1:
        raise declared.error("split.validation and split.test must be positive and leave rows to train on", ("split",))
    return spec


def _check_split(spec: ModelSpec, declared: declarations.Declared) -> None:
    split = spec.split
    dates = [(name, getattr(split, name)) for name in ("start", "validation_from", "test_from", "until")]
    given = [(name, instant(text, declared, ("split", name))) for name, text in dates if text]
    if given and not spec.timed:
        raise declared.error(
            "split has dates, but data.as_of names no time column", ("split", given[0][0]), hint="name it in data.as_of"
        )
    if bool(split.validation_from) != bool(split.test_from):
        raise declared.error("split needs both validation_from and test_from, or neither", ("split",))
    for (first, earlier), (second, later) in itertools.pairwise(given):
        if earlier >= later:
            raise declared.error(f"split.{second} must be after split.{first}", ("split", second))


def _check_retrain(retrain: RetrainSpec, declared: declarations.Declared) -> None:
    for name in ("cooldown", "breaker_pause"):
        if not getattr(retrain, name):
            raise declared.error(f"retrain.{name} is empty", ("retrain", name), hint="0d for none")
        _duration(declared, getattr(retrain, name), ("retrain", name))
    for name, least in {"windows": 1, "of": retrain.windows, "per_month": 0, "breaker": 1}.items():
        if getattr(retrain, name) < least:
            raise declared.error(f"retrain.{name} must be {least} or more", ("retrain", name))


def instant(text: str, declared: declarations.Declared | None = None, at: declarations.Key = ()) -> datetime:
    """A date or time as UTC; a time without a zone counts as UTC.

    Example:
        >>> instant("2013-06-01").isoformat()
        '2013-06-01T00:00:00+00:00'
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r} is not a date or time"
        if declared is None:
            raise ValueError(message) from None
        raise declared.error(message, at, hint="write 2013-06-01 or 2013-06-01T06:00") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


_LONGEST = timedelta(days=36_525)


def duration(text: str) -> timedelta:
    """A length of time: a number and m, h, d or w (minutes, hours, days, weeks).

    Raises:
        ValueError: it is not.

    Example:
        >>> duration("36h"), duration("0d")
        (datetime.timedelta(days=1, seconds=43200), datetime.timedelta(0))
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text)
    if not found:
        raise ValueError(f"{text!r} is not a length of time such as 90m, 36h, 30d or 2w")
    try:
        length = timedelta(**{_UNITS[found[2]]: float(found[1])})
    except OverflowError:
        length = timedelta.max
    if length > _LONGEST:
        raise ValueError(f"{text!r} is longer than {_LONGEST.days} days")
    return length


def _duration(declared: declarations.Declared, text: str, at: declarations.Key) -> None:
    if text:
        try:
            duration(text)
        except ValueError as error:
            raise declared.error(f"{'.'.join(map(str, at))}: {error}", at) from None
