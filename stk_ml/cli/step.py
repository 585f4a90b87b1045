"""One step of pipelines/train.yml. People use stk-ml train; pipelines, here and on Azure ML, call these.

stk-ml step fit --model M --dataset DIR --out DIR
stk-ml step evaluate --model M --dataset DIR --artifact DIR --out DIR
stk-ml step register --model M --dataset DIR --artifact DIR --evaluation DIR --champion FILE --out FILE
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stk_ml.cli.output import Output

if TYPE_CHECKING:
    from stk_ml.contracts import Champion, Dataset, GateVerdict, ModelVersion, Registration
    from stk_ml.model_spec import ModelSpec
    from stk_ml.workspace import Workspace


def configure(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    """Adds the subcommands of ``stk-ml step``."""
    shared = argparse.ArgumentParser(add_help=False, parents=[common])
    shared.add_argument("--model", required=True, metavar="M", help="name of a model, or path of its YAML file")
    shared.add_argument("--dataset", required=True, metavar="DIR", type=Path, help="what stk-ml features pull wrote")
    shared.add_argument("--out", required=True, metavar="PATH", type=Path, help="where to write")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    fit = commands.add_parser("fit", parents=[shared], help="learn a model; writes a sealed artifact")
    fit.set_defaults(run=run_fit)

    evaluate = commands.add_parser("evaluate", parents=[shared], help="metrics with intervals, and the model card")
    evaluate.add_argument("--artifact", required=True, metavar="DIR", type=Path, help="what step fit wrote")
    evaluate.set_defaults(run=run_evaluate)

    register = commands.add_parser("register", parents=[shared], help="register the model and put it to the gate")
    register.add_argument("--artifact", required=True, metavar="DIR", type=Path, help="what step fit wrote")
    register.add_argument("--evaluation", required=True, metavar="DIR", type=Path, help="what step evaluate wrote")
    register.add_argument(
        "--champion", required=True, metavar="FILE", type=Path, help="what stk-ml models champion wrote"
    )
    register.set_defaults(run=run_register)


def run_fit(args: argparse.Namespace, out: Output) -> int:
    """Learns a model from a training set."""
    from stk_ml.training.fit import fit

    file, spec = _spec(args)
    model = fit(spec, args.dataset, args.out, spec_file=file, code_dir=Path.cwd())
    out.document({"model": spec.name, "digest": model.digest, "out": args.out})
    out.line(f"{spec.name}: {len(model.features)} features, digest {model.digest[:12]}")
    return 0


def run_evaluate(args: argparse.Namespace, out: Output) -> int:
    """Measures a model and writes its card."""
    from stk_ml.cli.common import interval
    from stk_ml.training.evaluate import evaluate

    _, spec = _spec(args)
    evaluation = evaluate(spec, args.dataset, args.artifact, args.out)
    out.document(evaluation)
    for split in ("train", "validation", "test"):
        found = evaluation.find(split)
        if found is not None:
            out.line(
                f"{split:<11}{evaluation.primary} {interval(found.values.get(evaluation.primary))}  {found.rows:,} rows"
            )
    return 0


def run_register(args: argparse.Namespace, out: Output) -> int:
    """Registers a model, compares it with the champion, and moves the aliases."""
    from stk_ml.artifact import manifest
    from stk_ml.cli.common import open_workspace
    from stk_ml.contracts import Champion, Dataset, Registration, read, write
    from stk_ml.settings import without_password

    file, spec = _spec(args)
    workspace = open_workspace(args)
    champion = read(Champion, args.champion)
    digest = manifest.verify(args.artifact).digest
    dataset = read(Dataset, args.dataset / "dataset.json")
    if champion.digest == digest:
        version, verdict = _unchanged(champion)
    else:
        version, verdict = _register(workspace, spec, file, args, dataset, champion)
    card = str((args.evaluation / "card.html").resolve())
    result = Registration(version, verdict, champion, without_password(workspace.settings.tracking_uri), card)
    write(result, args.out)
    _show(result, out)
    return 0


def _unchanged(champion: Champion) -> tuple[ModelVersion, GateVerdict]:
    """The same model again: nothing to register, and no need to wait for MLflow's import."""
    from stk_ml.contracts import GateVerdict, ModelVersion

    version = ModelVersion(champion.name, champion.version, champion.digest, aliases=("champion",))
    return version, GateVerdict(
        "same", False, f"it is version {champion.version}, the champion, again: same inputs, same model"
    )


def _register(
    workspace: Workspace, spec: ModelSpec, file: Path, args: argparse.Namespace, dataset: Dataset, champion: Champion
) -> tuple[ModelVersion, GateVerdict]:
    from stk_ml.artifact.model import TrainedModel
    from stk_ml.registry.provenance import code_version, lock_digest
    from stk_ml.training.gate import compare

    registry, project = workspace.registry, workspace.settings.project
    tags = {"code_version": code_version(project), "lock_digest": lock_digest(project)}
    version = registry.register(spec, args.artifact, evaluation=args.evaluation, dataset=dataset, tags=tags)
    current = TrainedModel.load(registry.download(f"{spec.name}:{champion.version}")) if champion.version else None
    verdict = compare(spec, args.dataset, TrainedModel.load(args.artifact), current, evaluation=args.evaluation)
    settled = registry.settle(spec.name, version.version, verdict, against=champion)
    if verdict.promote and "champion" not in settled.aliases:
        reason = (
            "another version was promoted while this one was trained, so it was not compared with that one; train again"
        )
        verdict = replace(verdict, outcome="cannot_tell", promote=False, reason=reason)
    return settled, verdict


def _spec(args: argparse.Namespace) -> tuple[Path, ModelSpec]:
    from stk_ml import model_spec
    from stk_ml.cli.common import open_workspace

    file = open_workspace(args).model_file(args.model)
    return file, model_spec.load(file)


def _show(result: Registration, out: Output) -> None:
    out.document(result)
    version, verdict = result.version, result.verdict
    out.line(f"{version.name}:{version.version} [{', '.join(version.aliases)}] {verdict.outcome}: {verdict.reason}")
