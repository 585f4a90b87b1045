"""Reads one step of a pipeline file and, if it has one, its component file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from stk_ml.declarations import Declared, Key
from stk_ml.errors import closest
from stk_ml.orchestration import expressions, keys, reading, values
from stk_ml.orchestration.pipeline import (
    LITERAL_TYPES,
    PATH_TYPES,
    FromStep,
    Literal,
    Place,
    Step,
    StepInput,
    StepOutput,
)


class StepReader:
    """Reads one step: from its place in the pipeline file and, if it has one, from its component file."""

    def __init__(self, job: Declared, file: Path, name: str, data: Any, notes: list[str]) -> None:
        self.job, self.file, self.name, self.notes = job, file, name, notes
        self.at: Key = ("jobs", name)
        if isinstance(data, dict) and "type" in data:
            keys.one_of(job, data["type"], ("command",), (*self.at, "type"))
        self.inline = not (isinstance(data, dict) and "component" in data)
        self.data = keys.check(job, "inline step" if self.inline else "step", data, self.at, notes)
        if self.inline:
            self.declared, self.base = job, file.parent
            self.where: Key = self.at
            self.component: dict[str, Any] = {k: v for k, v in self.data.items() if k not in ("inputs", "outputs")}
        else:
            self.declared, self.base, self.where, raw = self._open(self.data["component"])
            if isinstance(raw, dict) and "type" in raw:
                keys.one_of(self.declared, raw["type"], ("command",), (*self.where, "type"))
            self.component = keys.check(self.declared, "component", raw, self.where, notes)

    def _open(self, component: Any) -> tuple[Declared, Path, Key, Any]:
        at = (*self.at, "component")
        if isinstance(component, dict):
            return self.job, self.file.parent, at, component
        text = str(component).removeprefix("file:")
        if reading.REMOTE.match(text):
            raise self.job.error(
                f"the component {component!r} is in a registry or workspace",
                at,
                hint="save it beside the pipeline and name the file: component: ./NAME.yml",
            )
        path = (self.file.parent / text).absolute()
        if not path.is_file():
            raise self.job.error(f"there is no component file {text!r}", at, hint=f"looked for {path}")
        shown = Path(self.job.file).parent / text
        declared = reading.read(path, str(shown))
        return declared, path.parent, (), declared.data

    def step(self, parent_outputs: Mapping[str, str]) -> Step:
        """The step; ``parent_outputs`` are the types of the outputs of the pipeline."""
        command = self.component.get("command")
        if not isinstance(command, str) or not command.strip():
            raise self.declared.error(f"step {self.name!r} has no command", self.where, hint="add command: ...")
        inputs, outputs = self._inputs(), self._outputs(parent_outputs)
        self._check_command(command, inputs, outputs)
        deterministic = self.component.get("is_deterministic", True)
        if not isinstance(deterministic, bool):
            raise self.declared.error("is_deterministic must be true or false", (*self.where, "is_deterministic"))
        own = self.data.get("environment")
        at_environment = (*self.at, "environment") if own is not None else (*self.where, "environment")
        return Step(
            name=self.name,
            component=str(self.component.get("name") or self.name),
            version=str(self.component.get("version") or ""),
            command=command,
            code=self._code(),
            environment=reading.environment(
                self.job if own is not None else self.declared,
                own if own is not None else self.component.get("environment"),
                self.file.parent if own is not None else self.base,
                at_environment,
                self.notes,
            ),
            environment_variables=self._variables(inputs),
            inputs=inputs,
            outputs=outputs,
            is_deterministic=deterministic,
            timeout=self._timeout(),
            depends=tuple(
                dict.fromkeys(i.binding.step for i in inputs.values() if isinstance(i.binding, FromStep)).keys()
            ),
            place=Place(self.job.file, self.job.line(self.at)),
        )

    def _inputs(self) -> dict[str, StepInput]:
        given = reading.named(self.job, self.data.get("inputs"), (*self.at, "inputs"))
        if self.inline:
            return {name: self._given(StepInput(name, ""), value) for name, value in given.items()}
        rows = reading.named(self.declared, self.component.get("inputs"), (*self.where, "inputs"))
        known = {name: self._declaration(name, row) for name, row in rows.items()}
        for name in given:
            if name not in known:
                raise self.job.error(
                    f"the component of step {self.name!r} has no input {name!r}",
                    (*self.at, "inputs", name),
                    hint=closest(name, known),
                )
        inputs = {n: self._given(row, given[n]) if given.get(n) is not None else row for n, row in known.items()}
        for name, row in inputs.items():
            if row.binding is None and row.default is None and not row.optional:
                raise self.job.error(
                    f"step {self.name!r} needs the input {name!r}",
                    (*self.at, "inputs"),
                    hint=f"add {name}: ${{{{parent.inputs.{name}}}}}, or a value",
                )
        return inputs

    def _declaration(self, name: str, row: Any) -> StepInput:
        at = (*self.where, "inputs", name)
        data = keys.check(self.declared, "declared input", row, at, self.notes)
        if "type" not in data:
            raise self.declared.error(f"the input {name!r} has no type", at, hint="add type: uri_folder, string, ...")
        kind = keys.one_of(self.declared, data["type"], (*PATH_TYPES, *LITERAL_TYPES), (*at, "type"))
        place = Place(self.declared.file, self.declared.line(at))
        declared = StepInput(
            name=name,
            type=kind,
            optional=data.get("optional") is True,
            enum=tuple(map(values.text, data.get("enum") or ())),
            minimum=reading.bound(self.declared, data.get("min"), (*at, "min")),
            maximum=reading.bound(self.declared, data.get("max"), (*at, "max")),
            place=place,
        )
        if data.get("default") is None:
            return declared
        default = values.text(reading.scalar(self.declared, data["default"], (*at, "default")))
        if kind in PATH_TYPES:
            return replace(declared, default=reading.location(default, self.base))
        return replace(declared, default=values.checked(default, declared, place))

    def _given(self, declared: StepInput, value: Any) -> StepInput:
        at = (*self.at, "inputs", declared.name)
        place = Place(self.job.file, self.job.line(at))
        kind, value = declared.type, value
        if isinstance(value, dict):
            data = keys.check(self.job, "given input", value, at, self.notes)
            if "type" in data:
                stated = keys.one_of(self.job, data["type"], (*PATH_TYPES, *LITERAL_TYPES), (*at, "type"))
                kind = kind or stated
            elif "path" in data:
                kind = kind or "uri_folder"
            value = data.get("path", data.get("value"))
        if value is None:
            raise self.job.error(f"the input {declared.name!r} has no value", at, hint="give a value, or type and path")
        value = reading.scalar(self.job, value, at)
        reference = reading.binding(self.job, value, at)
        if reference is not None:
            source = reading.source(self.job, reference, at)
            return replace(declared, type=kind, binding=source, place=place)
        kind = kind or values.kind(value)
        text = values.text(value)
        if kind in PATH_TYPES:
            return replace(
                declared, type=kind, binding=Literal(reading.location(text, self.file.parent), kind), place=place
            )
        text = values.checked(text, replace(declared, type=kind), place)
        return replace(declared, type=kind, binding=Literal(text, kind), place=place)

    def _outputs(self, parent: Mapping[str, str]) -> dict[str, StepOutput]:
        at = (*self.at, "outputs")
        given = reading.named(self.job, self.data.get("outputs"), at)
        known: dict[str, StepOutput] = {}
        rows = (
            {} if self.inline else reading.named(self.declared, self.component.get("outputs"), (*self.where, "outputs"))
        )
        for name, row in rows.items():
            where = (*self.where, "outputs", name)
            kind = reading.output_type(self.declared, row, where, "declared output", self.notes)
            known[name] = StepOutput(
                name, kind or "uri_folder", place=Place(self.declared.file, self.declared.line(where))
            )
        for name, value in given.items():
            if not self.inline and name not in known:
                raise self.job.error(
                    f"the component of step {self.name!r} has no output {name!r}",
                    (*at, name),
                    hint=closest(name, known),
                )
            known[name] = self._bound(name, known.get(name), value, parent)
        return known

    def _bound(self, name: str, declared: StepOutput | None, value: Any, parent: Mapping[str, str]) -> StepOutput:
        at = (*self.at, "outputs", name)
        kind, target = declared.type if declared else "", value
        if value is None or isinstance(value, dict):
            data = keys.check(self.job, "given output", value, at, self.notes)
            if "type" in data and not kind:
                kind = reading.output_type(self.job, {"type": data["type"]}, at, "given output", self.notes)
            target = data.get("path")
        reference = reading.binding(self.job, target, at) if target is not None else None
        if reference is None:
            if target is not None and isinstance(value, dict):
                self.notes.append(f"{self.job.file}:{self.job.line(at)}: {name}.path means nothing on a laptop")
            elif target is not None:
                raise self.job.error(
                    f"the output {name!r} must be bound to ${{{{parent.outputs.NAME}}}}, not to {target!r}", at
                )
        elif reference.kind != "parent_output":
            raise self.job.error(f"an output cannot be bound to {reference}", at, hint="use ${{parent.outputs.NAME}}")
        elif reference.name not in parent:
            raise self.job.error(
                f"the pipeline has no output {reference.name!r}", at, hint=closest(reference.name, parent)
            )
        to = reference.name if reference else ""
        return StepOutput(name, kind or parent.get(to) or "uri_folder", to, Place(self.job.file, self.job.line(at)))

    def _check_command(self, command: str, inputs: Mapping[str, StepInput], outputs: Mapping[str, StepOutput]) -> None:
        at = (*self.where, "command")
        try:
            found = expressions.references(command)
        except ValueError as error:
            raise self.declared.error(f"command: {error}", at, hint="known: ${{inputs.X}}, ${{outputs.X}}") from None
        for reference, grouped in found:
            known: Mapping[str, Any] = {"input": inputs, "output": outputs}.get(reference.kind, {})
            if reference.kind not in ("input", "output"):
                raise self.declared.error(
                    f"command: {reference} cannot stand in a command", at, hint="use ${{inputs.X}} or ${{outputs.X}}"
                )
            if reference.name not in known:
                raise self.declared.error(
                    f"command: {reference} is not declared", at, hint=closest(reference.name, known)
                )
            row = inputs[reference.name] if reference.kind == "input" else None
            if row is not None and row.optional and not grouped and row.default is None and row.binding is None:
                raise self.declared.error(
                    f"command: the optional input {row.name!r} stands outside $[[ ]] and is not given",
                    at,
                    hint=f"write $[[--{row.name} {reference}]]",
                )

    def _code(self) -> Path | None:
        code, at = self.component.get("code"), (*self.where, "code")
        if code is None:
            return None
        if not isinstance(code, str) or reading.REMOTE.match(code):
            raise self.declared.error(f"code {code!r} is not a local folder", at, hint="give a folder beside the file")
        path = (self.base / code.removeprefix("file:")).resolve()
        if not path.exists():
            raise self.declared.error(f"there is no code folder {code!r}", at, hint=f"looked for {path}")
        return path

    def _variables(self, inputs: Mapping[str, StepInput]) -> dict[str, str]:
        at = (*self.at, "environment_variables")
        rows = reading.mapping(self.job, self.data.get("environment_variables"), at)
        variables = {}
        for name, value in rows.items():
            text = values.text(reading.scalar(self.job, value, (*at, str(name))))
            try:
                found = [reference for reference, _ in expressions.references(text)]
            except ValueError as error:
                raise self.job.error(f"{name}: {error}", (*at, name)) from None
            for reference in found:
                if reference.kind != "input" or reference.name not in inputs:
                    raise self.job.error(
                        f"{name}: {reference} is not an input of the step",
                        (*at, name),
                        hint=closest(reference.name, inputs),
                    )
            variables[name] = text
        return variables

    def _timeout(self) -> int | None:
        at = (*self.at, "limits")
        limits = keys.check(self.job, "limits", self.data.get("limits"), at, self.notes)
        timeout = limits.get("timeout")
        if timeout is not None and (not isinstance(timeout, int) or timeout <= 0):
            raise self.job.error("limits.timeout must be a number of seconds", (*at, "timeout"))
        return timeout
