"""Graph -> the text of a Pyro program; graph -> the program that runs exactly that text."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.distributions import Transform, constraints

from dgmcompile.codegen.formatting import formatted
from dgmcompile.codegen.formulas import Import, import_lines, names_used, texts_of
from dgmcompile.codegen.module import (
    File,
    RealConstants,
    keyword_only,
    loaded,
    share,
    state_statements,
)
from dgmcompile.codegen.modules import Constants, anchor, buffer_annotations, indented, plain_defaults
from dgmcompile.codegen.names import class_name, docstring, identifier
from dgmcompile.codegen.pyro_frame import ProgramFrame
from dgmcompile.codegen.pyro_sites import variables_of
from dgmcompile.codegen.pyro_state import param_statements, pyro_state
from dgmcompile.codegen.state import called_path
from dgmcompile.codegen.statements import signature
from dgmcompile.codegen.tables import buffers_of, tensors_of
from dgmcompile.ir.graph import Argument, Constant, Graph, Input, Parameter, Sample
from dgmcompile.ir.size import Size

_PYRO: Mapping[str, Import] = {
    "pyro": ("pyro", None),
    "dist": ("pyro.distributions", None),
    "poutine": ("pyro", "poutine"),
    "PyroModule": ("pyro.nn", "PyroModule"),
    "PyroParam": ("pyro.nn", "PyroParam"),
    "constraints": ("pyro.distributions", "constraints"),
    "Transform": ("torch.distributions", "Transform"),
}
"""What Pyro programs import beside what emitted files do."""

_OURS = ("State", "RecordedTransform")
_OBSERVATIONS = "observations"


def pyro_source(graph: Graph, original: Graph | None = None) -> str:
    """The text of one Python file that is the program; see `pyro_program`."""
    return _Program(graph, original).text


def pyro_program(graph: Graph, original: Graph | None = None) -> Callable[..., Any]:
    """The Pyro program that runs the text of `pyro_source`, which is its ``source``.

    A function, or a `PyroModule` where the graph has parameters, buffers or submodules: these are the user's own.
    It takes the arguments of the graph, and returns a dict of the targets' values. A target observes the argument
    that it observed while recording, or what ``observations`` (site -> value, by keyword) has for it.

    Args:
        graph: of any form.
        original: the traced graph that it was made from, which knows masks and scales of rewritten variables.
    Errors:
        `CompileError` ``no-text-for-law``, and as in `codegen.source_of`.
    """
    program = _Program(graph, original)
    made: Any = getattr(loaded(program.text, graph.name), program.name)
    if program.holds_state:
        devices = (tensor.device for _, tensor in tensors_of(program.state.state.root))
        device = next(devices, torch.get_default_device())  # before the default becomes "meta"
        with plain_defaults(), torch.device("meta"), RealConstants(device):
            made = made()
        share(program.state.state.root, made, frozen=False)
    made.__dict__["source"] = program.text
    return made


class _Program:
    """The text, and what it is made of."""

    def __init__(self, graph: Graph, original: Graph | None) -> None:
        variables = variables_of(graph, original)
        self.state = pyro_state(_with_arguments(variables.graph))
        self._variables = replace(variables, graph=self.state.graph)
        graph = self.state.graph
        self.holds_state = any(isinstance(n, Parameter | Constant) or called_path(n) for n in graph)
        file = File.of(graph, lambda root: None)
        for name in (*_OURS, *_PYRO):
            file.namespace.reserve(name)
        file.reserved = file.reserved | {*_OURS, *_PYRO}
        file.classes.reserved = file.reserved
        self._file = file
        self._imports = set[str]()
        wanted = class_name(graph.name, "Program") if self.holds_state else identifier(graph.name, "program")
        self.name = file.namespace.new(wanted)
        self.text = self._assembled(self._class() if self.holds_state else self._function())

    # the program

    def _frame(self, constants: Constants | None) -> ProgramFrame:
        graph, root = self.state.graph, self.state.state.root
        sites = [node for node in graph if node.site is not None]
        named = {str(argument.name).lstrip("*") for argument in graph.arguments}
        observations = next(name for name in (_OBSERVATIONS, "observed_values", "values_of_sites") if name not in named)
        targets = [n for n in sites if isinstance(n, Sample) and n.site and n.site.role == "target"]
        known = graph.binding.data.keys() | self._variables.weighed
        free = [n for n in targets if n.site and n.site.name not in known]
        self._free, self._observations = bool(free), observations
        frame = ProgramFrame(
            graph=graph,
            results=[node.name for node in sites],
            parameter=self.state.parameter,
            module=self.state.parameter,
            constants=constants.expressions if constants is not None else {},
            anchor=(lambda dtype: anchor(root, "self", dtype)) if constants is not None else (lambda dtype: None),
            reserved=self._file.reserved | {observations} if free else self._file.reserved,
            formulas=self._file.formulas,
            event_dims=self._variables.event_dims,
            weighed=self._variables.weighed,
            returned=[node.name for node in sites if node.site and node.site.role == "target"],
            imports=self._imports,
        )
        frame.observed = {
            **{n.site.name: f"{observations}.get({n.site.name!r})" for n in free if n.site},
            **{site: frame.place(path) for site, path in graph.binding.data.items()},
        }
        return frame

    def _def(self, name: str, frame: ProgramFrame, first: list[str]) -> list[str]:
        parameters, _ = signature(frame)
        head = [*first, *parameters]
        body = [docstring(*self._said())]
        if self._free:
            head += keyword_only(head, f"{self._observations}: dict[str, Tensor] | None = None")
            body.append(f"{self._observations} = {self._observations} or {{}}")
        body += frame.program()
        entries = [f"{frame.graph[name].site.name!r}: {frame.value(name)}" for name in frame.returned]  # type: ignore[union-attr]
        body.append(f"return {{{', '.join(entries)}}}")
        return [f"def {name}({', '.join(head)}) -> dict[str, Tensor]:", *indented(body)]

    def _said(self) -> list[str]:
        graph = self.state.graph
        said = [f"Model `{graph.name}`; the values of its targets."]
        data = {site: str(path[0]) for site, path in graph.binding.data.items()}
        others = [f"`{site}` observes `{name}`" for site, name in data.items() if site != name]
        said += ["", f"{', '.join(others)}."] if others else []
        said += ["", f"`{self._observations}`: site -> data; what is not there is drawn."] if self._free else []
        return said

    def _function(self) -> str:
        frame = self._frame(None)
        return "\n".join(self._def(self.name, frame, []))

    def _class(self) -> str:
        state, file = self.state, self._file
        graph, root = state.graph, state.state.root
        constants = Constants(graph, root)
        own = {key for key in state.params if "." not in key}
        held = [
            line
            for line in state_statements(file, state.state, "")
            if not any(line.startswith((f"self.{key} = ", f"self.register_parameter({key!r}, ")) for key in own)
        ]
        frame = self._frame(constants)
        named = f"super().__init__({state.root_name!r})" if state.root_name else "super().__init__()"
        made = [named, *held, *param_statements(state.params, root), *constants.statements()]
        lines = [
            docstring(f"Model `{graph.name}`."),
            *buffer_annotations([*buffers_of(root), *constants.names]),
            "",
            "def __init__(self) -> None:",
            *indented(made),
            "",
            *self._def("forward", frame, ["self"]),
        ]
        return "\n".join([f"class {self.name}(PyroModule):", *indented(lines)])

    # the file

    def _assembled(self, program: str) -> str:
        file = self._file
        definitions = [*texts_of(file.formulas.values()).definitions.values(), *file.classes.texts.values()]
        helpers = [inspect.getsource(RecordedTransform).strip()] if "RecordedTransform(" in program else []
        if any("State(" in text for text in [*definitions, program]):
            helpers.append(inspect.getsource(State).strip())
        body = [*helpers, *definitions, program]
        used, imports = names_used(body), import_lines(body, file.texts.imports)
        theirs = {name: origin for name, origin in _PYRO.items() if name in used}
        title = docstring(f"Model `{self.state.graph.name}` as a Pyro program, written by dgmcompile.")
        head = f"{title}\n\n{_with_pyro(imports, theirs, self._imports)}"
        return formatted("\n\n\n".join([head, *body]) + "\n")


def _with_pyro(lines: str, theirs: Mapping[str, Import], modules: set[str]) -> str:
    """The imports in two groups: Python's own, then the libraries'."""
    own = [line for line in lines.splitlines() if line and line.split()[1].split(".")[0] != "torch"]
    others = [line for line in lines.splitlines() if line and line not in own] + [f"import {name}" for name in modules]
    members = dict[str, list[str]]()
    for name, (module, member) in theirs.items():
        if member is None:
            others.append(f"import {module}" if module == name else f"import {module} as {name}")
        else:
            members.setdefault(module, []).append(name)
    others += [f"from {module} import {', '.join(sorted(names))}" for module, names in members.items()]
    others.sort(key=lambda line: (line.startswith("from "), line.split()[1], line))
    return "\n".join([*sorted(own), "", *others])


def _with_arguments(graph: Graph) -> Graph:
    """Arguments that are nothing but data may be left out: their sites are drawn then."""
    read = {n.path[0] for n in graph if isinstance(n, Input) and (graph.users(n.name) or n.name in _sized(graph))}
    read |= {guard.path[0] for guard in graph.guards if not isinstance(guard.expected, Size)}
    data = {path[0] for path in graph.binding.data.values() if len(path) == 1}

    def written(argument: Argument) -> Argument:
        is_data = argument.name in data and argument.name not in read
        return Argument(argument.name, argument.required and not is_data, argument.keyword_only)

    return graph.evolve(arguments=tuple(written(argument) for argument in graph.arguments))


def _sized(graph: Graph) -> set[str]:
    return {name for node in graph for name in node.inputs}


# definitions that the files contain


class State(PyroModule):
    """Parameters, buffers and modules by name; constants are left out of the state dict."""

    __getattr__: Any  # type checkers do not see what is registered

    def __init__(self, constants: dict[str, Tensor] | None = None, /, **state: nn.Module | Tensor) -> None:
        super().__init__()
        for name, value in state.items():
            if isinstance(value, nn.Module):
                self.add_module(name, value)
            elif isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            else:
                self.register_buffer(name, value)
        for name, value in (constants or {}).items():
            self.register_buffer(name, value, persistent=False)


class RecordedTransform(Transform):
    """A transform by what it computes.

    ``undone`` gives the value before the transform, and the logarithm of the Jacobian there; the shapes are those of
    an event before and after.
    """

    def __init__(self, done: Any, undone: Any, before: tuple[int, ...], after: tuple[int, ...]) -> None:
        super().__init__()
        self.done, self.undone, self.before, self.after = done, undone, before, after
        self.bijective = undone is not None
        self.domain = constraints.independent(constraints.real, len(before))
        self.codomain = constraints.independent(constraints.real, len(after))

    def _call(self, x: Tensor) -> Tensor:
        return self.done(x)

    def _inverse(self, y: Tensor) -> Tensor:
        if self.undone is None:
            raise NotImplementedError("the transform has no inverse that could be recorded")
        return self.undone(y)[0]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.undone(y)[1]

    def forward_shape(self, shape: Any) -> Any:
        return torch.Size((*shape[: len(shape) - len(self.before)], *self.after))

    def inverse_shape(self, shape: Any) -> Any:
        return torch.Size((*shape[: len(shape) - len(self.after)], *self.before))
