"""Runs an Azure ML pipeline on this machine."""

from __future__ import annotations

import errno
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from stk_ml.errors import StorageError, UnknownNameError
from stk_ml.orchestration import outputs as files
from stk_ml.orchestration.cache import Cache, Scratch
from stk_ml.orchestration.commands import Invoke
from stk_ml.orchestration.execution import Execution
from stk_ml.orchestration.pipeline import Pipeline
from stk_ml.orchestration.protocol import PipelineRun, StepEvent, StepResult
from stk_ml.orchestration.resolve import resolve

__all__ = ["LocalRunner", "PipelineRun", "StepEvent", "StepResult"]


class LocalRunner:
    r"""Runs pipelines in processes of this machine, with a cache of steps by content.

    Args:
        cache: folder of the cache; several runs may share it.
        invoke: runs one ``stk-ml`` command in this process: ``invoke(argv, env, cwd) -> exit code``, with "stk-ml" as
            ``argv[0]``, the whole environment, and the folder to run in (it is not changed to). It is called in the
            thread that called :meth:`run`, one at a time, with sys.stdout and sys.stderr going to the step's log.
            Without it, and while it is busy, ``stk-ml`` steps are subprocesses.
        datastores: folder by name, for ``azureml://datastores/NAME/paths/...``.
        lock: digest of what is installed; it takes part in every cache key.
        on_event: is told what happens, from several threads but one at a time. Print to a stream that was opened
            before the run: sys.stdout may be the log of a step.
        threads: steps that run side by side.
        project: the project's folder; steps find it as STK_ML_PROJECT.
        environment: variables that every step finds beside those of this process.

    Example:
        >>> import tempfile
        >>> from stk_ml.orchestration.parse import load_pipeline
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = (folder / "job.yml").write_text('''
        ... type: pipeline
        ... inputs: {name: world}
        ... outputs: {greeting: {type: uri_file}}
        ... jobs:
        ...   greet:
        ...     command: echo hello ${{inputs.name}} > ${{outputs.text}}
        ...     environment: azureml:any@latest
        ...     inputs: {name: "${{parent.inputs.name}}"}
        ...     outputs: {text: "${{parent.outputs.greeting}}"}
        ... ''')
        >>> runner = LocalRunner(folder / "cache")
        >>> run = runner.run(load_pipeline(folder / "job.yml"), {"name": "you"})
        >>> run.steps["greet"].status, run.outputs["greeting"].read_text()
        ('ran', 'hello you\n')
        >>> runner.run(load_pipeline(folder / "job.yml"), {"name": "you"}).steps["greet"].status
        'cached'
    """

    def __init__(
        self,
        cache: Path,
        *,
        invoke: Invoke | None = None,
        datastores: Mapping[str, str] = {},
        lock: str = "",
        on_event: Callable[[StepEvent], None] | None = None,
        threads: int = 2,
        project: Path | None = None,
        environment: Mapping[str, str] = {},
    ) -> None:
        self.cache = Path(cache).absolute()
        self.invoke, self.datastores, self.lock = invoke, datastores, lock
        self.on_event, self.threads, self.project = on_event, max(1, threads), project
        self.environment = dict(environment)

    def run(
        self,
        pipeline: Pipeline,
        inputs: Mapping[str, str] = {},
        *,
        output_dir: Path | None = None,
        force: Sequence[str] = (),
    ) -> PipelineRun:
        """Runs a pipeline to its end; see :class:`stk_ml.orchestration.protocol.PipelineRunner`.

        Args:
            pipeline: as loaded.
            inputs: values of its inputs, as text.
            output_dir: gets each pipeline output as ``output_dir/NAME``; default ``CACHE/runs/ID/outputs``.
            force: names of steps to run although they are cached.

        Raises:
            DeclarationError: an input does not fit, or its data is not there.
            UnknownNameError: an input or a forced step that the pipeline does not have.
            StepFailedError: a step failed; steps that ran beside it have ended.
            StorageError: the disk refused.
            KeyboardInterrupt: after Ctrl-C; the steps that were running have been ended.
        """
        for name in force:
            if name not in pipeline.steps:
                raise UnknownNameError("step", name, pipeline.steps)
        given = resolve(pipeline, inputs, self.datastores)
        run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{secrets.token_hex(3)}"
        try:
            cache = Cache(self.cache)
            folder = cache.folder / "runs" / run_id
            (folder / "logs").mkdir(parents=True)
            with Scratch(cache, run_id) as scratch:
                execution = Execution(
                    pipeline,
                    given,
                    cache=cache,
                    run_id=run_id,
                    scratch=scratch.folder,
                    invoke=self.invoke,
                    environment=self._environment(run_id),
                    lock=self.lock,
                    on_event=self.on_event,
                    threads=self.threads,
                    force=tuple(pipeline.steps) if pipeline.force_rerun else tuple(force),
                )
                steps = execution.run()
            placed = _place(pipeline, steps, output_dir or folder / "outputs")
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            raise _storage_error(error, self.cache) from error
        return PipelineRun(run_id, steps, placed)

    def _environment(self, run_id: str) -> dict[str, str]:
        """What every step finds: ours, with this Python first on the path, and what Azure ML would set cheaply."""
        environment = dict(os.environ)
        environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
        environment["AZUREML_ROOT_RUN_ID"] = run_id
        environment.update(self.environment)
        if self.project is not None:
            environment["STK_ML_PROJECT"] = str(self.project.absolute())
        return environment


def _place(pipeline: Pipeline, steps: Mapping[str, StepResult], folder: Path) -> dict[str, Path]:
    placed = {}
    for name in pipeline.outputs:
        source = pipeline.source(name)
        if source is not None:
            files.place(steps[source.step].outputs[source.name], folder / name)
            placed[name] = folder / name
    return placed


def _storage_error(error: OSError, cache: Path) -> StorageError:
    what = error.strerror or str(error)
    where = error.filename or cache
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = "free some space (the cache may be removed), and run it again: finished steps are kept" if full else ""
    return StorageError(
        f"{where}: {what[:1].lower()}{what[1:]}", hint=hint or "is it there, and may you read and write there?"
    )
