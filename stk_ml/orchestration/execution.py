"""One run: which step starts when, where it runs, and what becomes of it.

A worker thread takes each step from its key to its outputs. Commands of ``stk-ml`` are handed to the thread that called
:meth:`Execution.run`, so that Ctrl-C reaches them; everything else is a child process.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stk_ml.errors import StepFailedError
from stk_ml.orchestration import commands, outputs, process, record
from stk_ml.orchestration.cache import Cache, Entry, key_of
from stk_ml.orchestration.commands import Command, Invoke
from stk_ml.orchestration.digest import code_ignore, walk
from stk_ml.orchestration.pipeline import LITERAL_TYPES, FromPipeline, FromStep, Pipeline, Step
from stk_ml.orchestration.protocol import KeyParts, Status, StepEvent, StepResult
from stk_ml.orchestration.resolve import local

#: Seconds that a stk-ml command waits for the main thread before it becomes a process, which costs as much to start.
PATIENCE = 1.0


class _HandedOver:
    """A command that waits for the main thread, and how it ended there."""

    def __init__(self, command: Command) -> None:
        self.command = command
        self.code: int | None = None
        self.error: Exception | None = None
        self.ended = threading.Event()


class Execution:
    """The state of one run. Every attribute that threads share is only touched under ``_turn``."""

    def __init__(
        self,
        pipeline: Pipeline,
        given: Mapping[str, Mapping[str, str]],
        *,
        cache: Cache,
        run_id: str,
        scratch: Path,
        invoke: Invoke | None,
        environment: Mapping[str, str],
        lock: str,
        on_event: Callable[[StepEvent], None] | None,
        threads: int,
        force: Sequence[str],
    ) -> None:
        self.pipeline, self.given, self.cache, self.scratch = pipeline, given, cache, scratch
        self.invoke, self.environment, self.lock, self.on_event = invoke, environment, lock, on_event
        self.threads, self.force = threads, frozenset(force)
        self.folder = cache.folder / "runs" / run_id
        self.record = record.RunRecord(run_id, pipeline.name, str(pipeline.file))
        self.results: dict[str, StepResult] = {}
        self.entries: dict[str, Entry] = {}
        self._turn = threading.Condition()
        self._started: dict[str, threading.Thread] = {}
        self._children: dict[str, process.Child] = {}
        self._main: _HandedOver | None = None
        self._errors: list[Exception] = []
        self._stopping = self._interrupted = False

    def run(self) -> dict[str, StepResult]:
        """Runs every step. Raises the first error once the steps that were running have ended."""
        status = "running"
        try:
            self._advance()
            self._serve()
            self._finish()
            status = "ended"
        except BaseException as error:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
            self._interrupt()
            raise
        finally:
            self.record.status = status
            with contextlib.suppress(OSError):
                record.save(self.record, self.folder)
            self.cache.digests.save()
        return {name: self.results[name] for name in self.pipeline.steps}

    # The thread that called run()

    def _serve(self) -> None:
        """Runs what is handed over until no step is running or can start."""
        while True:
            with self._turn:
                while self._main is None and len(self.results) < len(self._started):
                    self._turn.wait()
                handed = self._main
            if handed is None:
                return
            if self.invoke is None:
                raise RuntimeError("nothing can be handed over without invoke")
            try:
                handed.code = commands.invoke_here(self.invoke, handed.command)
            except Exception as error:
                handed.error = error
            finally:
                with self._turn:
                    self._main = None
                    self._turn.notify_all()
                handed.ended.set()

    def _finish(self) -> None:
        for name in self.pipeline.steps:
            if name not in self.results:
                self._end(StepResult(name, "skipped"))
        if self._errors:
            raise self._errors[0]

    def _interrupt(self) -> None:
        with self._turn:
            self._stopping = self._interrupted = True
            handed, children = self._main, list(self._children.values())
        if handed is not None:
            handed.ended.set()
        process.stop(children)
        until = time.monotonic() + process.GRACE
        for thread in list(self._started.values()):
            thread.join(max(0.0, until - time.monotonic()))

    # Any thread

    def _advance(self) -> None:
        """Starts the steps that can start."""
        with self._turn:
            for name, step in self.pipeline.steps.items():
                if self._stopping or len(self._started) - len(self.results) >= self.threads:
                    break
                if name not in self._started and all(self._usable(other) for other in step.depends):
                    thread = threading.Thread(target=self._work, args=(step,), name=f"step {name}", daemon=True)
                    self._started[name] = thread
                    thread.start()
            self._turn.notify_all()

    def _usable(self, name: str) -> bool:
        return name in self.results and self.results[name].status in ("ran", "cached")

    def _event(self, result: StepResult | None, name: str) -> None:
        if self.on_event is not None:
            kind = result.status if result else "started"
            seconds, log = (result.seconds, result.log) if result else (0.0, None)
            done, total = len(self.results), len(self.pipeline.steps)
            self.on_event(StepEvent(name, kind, seconds, log, done, total))

    def _end(self, result: StepResult) -> None:
        with self._turn:
            self.results[result.name] = result
            known = self.record.steps.get(result.name)
            self.record.steps[result.name] = record.StepRecord(
                name=result.name,
                status=result.status,
                seconds=result.seconds,
                key=result.key,
                parts=result.parts or (known.parts if known else None),
                outputs={name: str(path) for name, path in result.outputs.items()},
                log=str(result.log or ""),
                forced=result.name in self.force,
            )
            try:
                record.save(self.record, self.folder)
                self._event(result, result.name)
            finally:
                self._turn.notify_all()

    # The thread of one step

    def _work(self, step: Step) -> None:
        since = time.monotonic()
        log = self.folder / "logs" / f"{step.name}.txt"
        parts: KeyParts | None = None
        status: Status
        try:
            values = self._values(step)
            parts = self._parts(step, values)
            key = key_of(parts, salt="" if step.is_deterministic else self.record.id)
            self._begin(step, parts, key)
            entry, status = None if step.name in self.force else self.cache.find(key), "cached"
            if entry is None:
                entry, status = self._make(step, values, parts, key, log), "ran"
            with self._turn:
                self.entries[step.name] = entry
            log = entry.log if status == "cached" else log
            result = StepResult(step.name, status, time.monotonic() - since, entry.outputs, log, parts, key)
        except Exception as error:
            with self._turn:
                self._errors.append(error)
                self._stopping = self._stopping or not self.pipeline.continue_on_step_failure
            result = StepResult(step.name, "failed", time.monotonic() - since, log=log, parts=parts)
        # One turn, or the main thread could see that nothing is running before the next step has started.
        with self._turn:
            try:
                self._end(result)
            except Exception as error:
                self._errors.append(error)
                self._stopping = True
            self._advance()

    def _begin(self, step: Step, parts: KeyParts, key: str) -> None:
        with self._turn:
            self.record.steps[step.name] = record.StepRecord(
                step.name, "running", key=key, parts=parts, forced=step.name in self.force
            )
            record.save(self.record, self.folder)

    def _values(self, step: Step) -> dict[str, str]:
        """Text or path of every input that is set."""
        values = dict(self.given[step.name])
        with self._turn:
            for row in step.inputs.values():
                if isinstance(row.binding, FromStep):
                    path = self.entries[row.binding.step].outputs[row.binding.name]
                    values[row.name] = str(local(str(path), row.type, row.place, row.name, {}))
        return values

    def _parts(self, step: Step, values: Mapping[str, str]) -> KeyParts:
        digests = self.cache.digests
        parameters, inputs, sources = {}, {}, {}
        for name, value in values.items():
            row = step.inputs[name]
            if row.type in LITERAL_TYPES:
                parameters[name] = value
            elif isinstance(row.binding, FromStep):
                inputs[name] = self.entries[row.binding.step].digests[row.binding.name]
                sources[name] = f"{row.binding.step}.{row.binding.name}"
            else:
                inputs[name] = digests.path(Path(value))
                sources[name] = value
                if isinstance(row.binding, FromPipeline):
                    sources[name] = f"{value} (pipeline input {row.binding.name})"
        return KeyParts(
            command=step.command,
            parameters=parameters,
            inputs=inputs,
            sources=sources,
            code=self._code(step),
            environment=step.environment,
            environment_variables=step.environment_variables,
            outputs={name: out.type for name, out in step.outputs.items()},
            program=self._program if commands.PROGRAM in step.command else {},
            lock=self.lock,
            is_deterministic=step.is_deterministic,
        )

    def _code(self, step: Step) -> dict[str, str]:
        if step.code is None:
            return {}
        if step.code.is_file():
            return {step.code.name: self.cache.digests.file(step.code)}
        base, patterns, inside = step.code, code_ignore(step.code), os.path.realpath(self.cache.folder)

        def ignore(name: str, is_dir: bool) -> bool:
            return patterns(name, is_dir) or (is_dir and os.path.realpath(base / name) == inside)

        return {name: self.cache.digests.file(path) for name, path in walk(base, ignore, tables=False)}

    @functools.cached_property
    def _program(self) -> dict[str, str]:
        """Digest of each source file of stk_ml."""
        package = Path(__file__).resolve().parents[1]
        files = walk(package, lambda name, is_dir: name.endswith("__pycache__"), tables=False)
        return {name: self.cache.digests.file(path) for name, path in files}

    def _make(self, step: Step, values: Mapping[str, str], parts: KeyParts, key: str, log: Path) -> Entry:
        since = time.monotonic()
        scratch = self.scratch / step.name
        made, cwd = scratch / "entry", scratch / "work"
        paths = outputs.prepare(step, made / "outputs")
        cwd.mkdir()
        if step.code is not None:
            outputs.copy_code(step.code, cwd, parts.code)
        log.touch()
        with self._turn:
            self._event(None, step.name)
        command = commands.command(step, values, paths, self.environment, cwd, log)
        code = self._execute(step, command)
        if code != 0:
            raise _failure(step, commands.ending(code, step.timeout), code, log)
        wrong = outputs.problems(step, paths)
        if wrong:
            raise _failure(step, "ended well but " + " and ".join(wrong), 0, log)
        outputs.place(log, made / "log.txt")
        if step.name in self.force:
            self.cache.discard(key, scratch)
        return self.cache.add(key, made, parts.outputs, time.monotonic() - since)

    def _execute(self, step: Step, command: Command) -> int:
        handed = self._hand_over(command)
        if handed is not None:
            handed.ended.wait()
            if handed.error is not None:
                raise handed.error
            return commands.INTERRUPTED if handed.code is None else handed.code
        with self._turn:
            if self._interrupted:
                return commands.INTERRUPTED
            child = self._children[step.name] = command.child()
        try:
            return child.wait(command.timeout)
        finally:
            with self._turn:
                del self._children[step.name]

    def _hand_over(self, command: Command) -> _HandedOver | None:
        """Gives the command to the main thread when it may run there, and that is free now or in a moment."""
        with self._turn:
            if self.invoke is None or not command.invocable:
                return None
            if not self._turn.wait_for(lambda: self._main is None, PATIENCE) or self._interrupted:
                return None
            self._main = _HandedOver(command)
            self._turn.notify_all()
            return self._main


def _failure(step: Step, what: str, code: int, log: Path) -> StepFailedError:
    lines = commands.tail(log)
    error, mend = commands.told(lines)
    if error:  # an stk-ml command says in one line what happened, and how to mend it
        hint = "; ".join(filter(None, (mend, f"whole log: {log}")))
        return StepFailedError(f"step {step.name!r} failed: {error}", step=step.name, code=code, hint=hint)
    shown = "its log ends:\n" + "\n".join(f"  {line}" for line in lines) + "\n" if lines else "its log is empty\n"
    return StepFailedError(f"step {step.name!r} {what}", step=step.name, code=code, hint=f"{shown}whole log: {log}")
