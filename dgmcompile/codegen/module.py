"""Graph -> the source of one standalone file; graph -> the module that runs exactly that text."""

from __future__ import annotations

import ast
import hashlib
import linecache
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from dgmcompile.codegen.formatting import formatted
from dgmcompile.codegen.formulas import STANDARD, Texts, import_lines, texts_of
from dgmcompile.codegen.layout import format_of_convolutions, lay_out
from dgmcompile.codegen.modules import (
    Classes,
    Constants,
    anchor,
    below,
    buffer_annotations,
    buffer_statement,
    indented,
    plain_defaults,
    tensor_text,
)
from dgmcompile.codegen.names import Namespace, class_name, docstring, identifier, is_plain
from dgmcompile.codegen.printed import State as StateClass
from dgmcompile.codegen.printed import load_weights
from dgmcompile.codegen.state import State, access, assignment, called_path, state_root, ties
from dgmcompile.codegen.statements import Frame, signature
from dgmcompile.codegen.tables import all_modules, buffers_of, modules_of, parameters_of, tensors_of
from dgmcompile.diagnostics import InternalError
from dgmcompile.ir.graph import Call, Formula, Graph, Node, Noise, Parameter, leaves
from dgmcompile.reparam import NOISE_LAWS

Layout = Callable[[nn.Module], torch.memory_format | None]
TEACHER, STUDENT = "teacher.", "student."
_PAIR_NAMES = ("Teacher", "Student", "Loss", "Distillation")
_MODULES = "dgmcompile.emitted"


def source_of(graph: Graph) -> str:
    """The text of one Python file that is the program; it imports torch, math and typing.

    A file of one program holds a class with ``sample_noise(*args, generator=None)`` and
    ``forward(*args, noise=None)``, which returns a dict of the graph's outputs; that of a teacher-student pair
    holds ``Teacher``, ``Student`` and ``Distillation``, which returns ``Loss(total, surrogate, latent)``. Models that
    convolve images keep their weights in the memory format ``torch.channels_last``, in which that is faster.

    Errors:
        `CompileError` ``module-not-emittable`` for a submodule that cannot be written down.
        `InternalError` where a `Sample` is left.
    """
    return _emit(graph, format_of_convolutions).text


def compile_graph(
    graph: Graph, memory_format: torch.memory_format | None = None, *, readable: bool = True
) -> nn.Module:
    """The module that runs the text of `source_of`, with the user's own tensors; ``source`` holds the text.

    Parameters and buffers are those of ``graph.binding``: training the module trains the user's model. The teacher
    of a pair shares the values only; it is frozen and in eval mode, and the user's flags stay as they are.

    Args:
        memory_format: in which the user's own tensors lie from then on, as by ``module.to(memory_format=...)``;
            ``torch.channels_last`` makes convolutions of images faster. By default they stay as they are, and the
            text lacks the line that files of such models have for it.
        readable: is the text laid out for people? It takes a while.
    Errors:
        As `source_of`.
    """
    emitted = _emit(graph, lambda root: memory_format, readable)
    if memory_format is not None:
        for part in emitted.parts:
            lay_out(part.state.root, memory_format)
    namespace = loaded(emitted.text, graph.name)
    device = _device_of(emitted)  # before the default becomes "meta"
    with plain_defaults(), torch.device("meta"), RealConstants(device):
        made = [getattr(namespace, part.name)() for part in emitted.parts]
        module: nn.Module = getattr(namespace, emitted.name)(*made) if is_pair(graph) else made[0]
    for part, own in zip(emitted.parts, made, strict=True):
        share(part.state.root, own, frozen=part.prefix == TEACHER)
    if emitted.rest is not None:
        share(emitted.rest.root, module, frozen=False)
    module.__dict__["source"] = emitted.text
    return module


def is_pair(graph: Graph) -> bool:
    """Is it a teacher-student pair, whose outputs are the terms of a loss?"""
    terms = all(name == "total" or name.startswith(("surrogate.", "latent.")) for name in graph.outputs)
    return terms and "total" in graph.outputs and graph[graph.outputs["total"]].site is None


@dataclass(frozen=True)
class _Part:
    """A class that holds state: the program itself, or the teacher or student of a pair."""

    name: str
    prefix: str
    state: State


@dataclass(frozen=True)
class _Emitted:
    """``rest``: of a pair, the state that belongs to neither model."""

    text: str
    name: str
    parts: tuple[_Part, ...]
    rest: State | None = None


@dataclass
class File:
    """What is written so far.

    ``layout``: which memory format the class of a state converts itself to; ``readable``: is it laid out for people?
    """

    graph: Graph
    layout: Layout
    texts: Texts
    namespace: Namespace
    reserved: frozenset[str]
    readable: bool = True
    formulas: dict[str, Formula] = field(default_factory=dict[str, Formula])

    @classmethod
    def of(cls, graph: Graph, layout: Layout, readable: bool = True) -> File:
        texts = texts_of(all_formulas(graph))
        ours = ("State", "load_weights", "state_from_store", "read_weights", "name_in_program", *_PAIR_NAMES)
        reserved = frozenset({*texts.definitions, *texts.imports, *STANDARD, *ours})
        return cls(graph, layout, texts, Namespace(reserved), reserved, readable)

    def __post_init__(self) -> None:
        self.classes = Classes(self.namespace, self.reserved, self.formulas)

    def assembled(self, title: str, classes: list[str]) -> str:
        """The file, around ``classes``."""
        definitions = [*texts_of(self.formulas.values()).definitions.values(), *self.classes.texts.values(), *classes]
        helpers = Texts()
        if any("State(" in text for text in definitions):
            helpers.add("State", StateClass)
        loader = Texts()
        loader.add("load_weights", load_weights)
        body = [*helpers.definitions.values(), *definitions, *loader.definitions.values()]
        imports = import_lines(body, {**self.texts.imports, **helpers.imports, **loader.imports})
        text = "\n\n\n".join([f"{title}\n\n{imports}", *body]) + "\n"
        return formatted(text) if self.readable else text


def _emit(graph: Graph, layout: Layout, readable: bool = True) -> _Emitted:
    file = File.of(graph, layout, readable)
    return _emit_pair(file) if is_pair(graph) else _emit_program(file)


def all_formulas(graph: Graph) -> Iterator[Formula]:
    for node in graph:
        yield from (leaf for leaf in leaves(node.arguments) if isinstance(leaf, Formula))
        if isinstance(getattr(node, "target", None), Formula):
            yield node.target  # type: ignore[attr-defined]
        if isinstance(node, Noise):
            yield NOISE_LAWS[node.law].draw
    for submodule in graph.binding.modules.values():
        if submodule.body is not None:
            yield from all_formulas(submodule.body)


# one program


def _emit_program(file: File) -> _Emitted:
    graph, state = file.graph, state_root(file.graph)
    name = file.namespace.new(class_name(graph.name))
    constants = Constants(graph, state.root)
    frames = _frames(file, state.access, constants, lambda dtype: anchor(state.root, "self", dtype))
    statements = [*state_statements(file, state, ""), *constants.statements(), *_layout_statements(file, state)]
    lines = [
        docstring(f"Every variable of `{graph.name}` as a function of its arguments and of noise."),
        *buffer_annotations([*buffers_of(state.root), *constants.names]),
        *names_table(state, ""),
        "",
        "def __init__(self) -> None:",
        *indented(["super().__init__()", *statements]),
        "",
        *_sample_noise(frames("draw")),
        "",
        *_forward(frames("forward")),
    ]
    title = docstring(
        f"Model `{graph.name}` as noise and deterministic nodes, emitted by dgmcompile.",
        "",
        "To use it:",
        "",
        f"    model = {name}()",
        "    load_weights(model, 'weights.pt')",
        "    values = model(...)",
    )
    text = file.assembled(title, ["\n".join([f"class {name}(nn.Module):", *indented(lines)])])
    return _Emitted(text, name, (_Part(name, "", state),))


def _frames(
    file: File,
    parameter: Callable[[str], str],
    constants: Constants,
    anchor_of: Callable[[torch.dtype | None], str | None],
) -> Callable[[str], Frame]:
    """What makes the frames of ``sample_noise`` ("draw") and of ``forward``."""
    graph = file.graph
    return lambda kind: Frame(
        graph=graph,
        results=graph.noises if kind == "draw" else tuple(graph.outputs.values()),
        parameter=parameter,
        module=parameter,
        constants=constants.expressions,
        anchor=anchor_of,
        reserved=file.reserved | {"teacher", "student"},
        formulas=file.formulas,
        draws=kind == "draw",
        titles=_term_titles(graph) if is_pair(graph) else {},
    )


def state_statements(file: File, state: State, prefix: str) -> list[str]:
    """The lines of ``__init__`` that build ``state``."""
    root, lines = state.root, list[str]()
    bound = file.graph.binding.modules.items()
    scope = {state.keys.get(path, path.removeprefix(prefix)): sub for path, sub in bound if path.startswith(prefix)}
    for name, tensor in parameters_of(root).items():
        if tensor is not None:
            value = tensor_text(tensor)
            lines.append(f"self.{name} = {value}" if is_plain(name) else f"self.register_parameter({name!r}, {value})")
    for name, tensor in buffers_of(root).items():
        if tensor is not None:
            lines.append(buffer_statement(name, tensor_text(tensor, parameter=False), persistent=True))
    for name, child in modules_of(root).items():
        if child is not None:
            value = file.classes.constructor(child, f"{prefix}{name}", below(scope, name))
            lines.append(f"self.{name} = {value}" if is_plain(name) else f"self.add_module({name!r}, {value})")
    for path, earlier in ties(root):
        lines.append(assignment(root, path, access(root, earlier, "self")) + "  # one tensor of two names")
    return lines


def names_table(state: State, prefix: str) -> list[str]:
    """The table by which ``load_weights`` finds what could not keep its name."""
    names = {ours: theirs.removeprefix(prefix) for theirs, ours in state.keys.items()}
    table = {ours: theirs for ours, theirs in names.items() if ours != theirs}
    if not table:
        return []
    return [f"names_in_program: ClassVar[dict[str, str]] = {table!r}  # the user's, of what could not keep its name"]


def _layout_statements(file: File, state: State) -> list[str]:
    """The line of ``__init__`` that lays the weights out."""
    memory_format = file.layout(state.root)
    if memory_format is None:
        return []
    comment = "  # convolutions run faster in it" if memory_format is torch.channels_last else ""
    return [f"self.to(memory_format={memory_format})  # type: ignore[call-overload]{comment}"]


def _sample_noise(frame: Frame) -> list[str]:
    parameters, _ = signature(frame)
    head = ["self", *parameters, *keyword_only(parameters, "generator: torch.Generator | None = None")]
    lines = [*frame.head(), *frame.body()]
    entries = frame.draw_entries()
    returned = ["return {", *indented(entries), "}"] if entries else ["return {}"]
    return [
        f"def sample_noise({', '.join(head)}) -> dict[str, Tensor]:",
        *indented(
            [
                docstring("A draw of every noise; the noise that `forward` takes."),
                *lines,
                *returned,
            ]
        ),
    ]


def keyword_only(parameters: list[str], *more: str) -> list[str]:
    """``more`` after ``parameters``, by keyword only."""
    last = parameters[-1] if parameters else ""
    if last.startswith("**"):
        raise InternalError("a program that takes **kwargs needs its keywords as arguments of their own")
    return [*([] if any(p.startswith("*") for p in parameters) else ["*"]), *more]


def _forward_head(frame: Frame, returns: str, said: str) -> tuple[str, list[str]]:
    parameters, passed = signature(frame)
    head = ["self", *parameters, *keyword_only(parameters, "noise: dict[str, Tensor] | None = None")]
    lines = [docstring(said), *frame.checks()]
    if any(isinstance(node, Noise) for node in frame.nodes):
        lines += ["if noise is None:", f"    noise = self.sample_noise({', '.join(passed)})"]
    return f"def forward({', '.join(head)}) -> {returns}:", [*lines, *frame.opening()]


def _forward(frame: Frame) -> list[str]:
    first, lines = _forward_head(frame, "dict[str, Tensor]", "Values by name, from `noise` or from a new draw.")
    lines += frame.body()
    entries = [frame.entry(name, node) for name, node in frame.graph.outputs.items()]
    return [first, *indented([*lines, f"return {dict_text(entries)}"])]


def dict_text(entries: list[str]) -> str:
    """A dict of these; one alone of all steps of a loop is it already."""
    is_whole = len(entries) == 1 and entries[0].startswith("**")
    return entries[0].removeprefix("**") if is_whole else f"{{{', '.join(entries)}}}"


# a pair

_LOSS = '''\
class Loss(NamedTuple):
    """What is minimised, and its terms by site."""

    total: Tensor
    surrogate: dict[str, Tensor]
    latent: dict[str, Tensor]'''

_TEACHER_APART = '''\
    @property
    def teacher(self) -> Teacher:
        """No submodule: it is not trained, stays in eval mode and is left out of the state dict."""
        return self._teacher[0]

    def _apply(self, fn: Any, recurse: bool = True) -> "Distillation":
        self.teacher._apply(fn, recurse)  # it moves along with the student
        return super()._apply(fn, recurse)'''


def _emit_pair(file: File) -> _Emitted:
    graph = file.graph
    for name in _PAIR_NAMES:
        file.namespace.reserve(name)
    teacher, student = (
        _Part(name, p, state_root(graph, p)) for name, p in (("Teacher", TEACHER), ("Student", STUDENT))
    )
    rest = state_root(_without_models(graph))
    constants = Constants(graph, rest.root)

    def parameter(path: str) -> str:
        if path.startswith(TEACHER):
            return teacher.state.access(path, "teacher")
        return student.state.access(path, "student") if path.startswith(STUDENT) else rest.access(path)

    def anchor_of(dtype: torch.dtype | None) -> str | None:
        own = anchor(student.state.root, "self.student", dtype) or anchor(rest.root, "self", dtype)
        return own or anchor(teacher.state.root, "self.teacher", dtype)

    frames = _frames(file, parameter, constants, anchor_of)
    holders = [_holder(file, part) for part in (teacher, student)]
    lines = [
        docstring("The loss of `Student`, which learns to be `Teacher`, as a function of the arguments and of noise."),
        *buffer_annotations([*buffers_of(rest.root), *constants.names]),
        "",
        "def __init__(self, teacher: Teacher, student: Student) -> None:",
        *indented(
            [
                "super().__init__()",
                "self._teacher = (teacher.requires_grad_(False).eval(),)",
                "self.student = student",
                *state_statements(file, rest, ""),
                *constants.statements(),
            ]
        ),
        "",
    ]
    methods = [*_sample_noise(frames("draw")), "", *_pair_forward(frames("forward"))]
    distillation = "\n".join(
        ["class Distillation(nn.Module):", *indented(lines), _TEACHER_APART, "", *indented(methods)]
    )
    title = docstring(
        f"Distillation `{graph.name}`, emitted by dgmcompile.",
        "",
        "To use it:",
        "",
        "    teacher, student = Teacher(), Student()",
        "    load_weights(teacher, 'teacher.pt')",
        "    load_weights(student, 'student.pt')  # its start values; parameters of no module are 0 without",
        "    loss = Distillation(teacher, student)",
        "    loss(...).total.backward()",
    )
    text = file.assembled(title, [*holders, _LOSS, distillation])
    return _Emitted(text, "Distillation", (teacher, student), rest)


def _without_models(graph: Graph) -> Graph:
    """The calls and parameters that belong to neither model, without their arguments."""
    bare = list[Node]()
    for node in graph:
        if isinstance(node, Parameter) and not node.path.startswith((TEACHER, STUDENT)):
            bare.append(node)
        elif isinstance(node, Call) and (path := called_path(node)) and not path.startswith((TEACHER, STUDENT)):
            bare.append(Call(name=node.name, target=node.target, location=node.location))
    return Graph(bare, outputs={}, binding=graph.binding)


def _holder(file: File, part: _Part) -> str:
    lines = [*state_statements(file, part.state, part.prefix), *_layout_statements(file, part.state)]
    annotations = [*buffer_annotations(buffers_of(part.state.root)), *names_table(part.state, part.prefix)]
    said = docstring(f"Parameters and submodules of the {part.prefix.rstrip('.')}.")
    body = [said, *annotations, "", "def __init__(self) -> None:", *indented(["super().__init__()", *lines])]
    return "\n".join([f"class {part.name}(nn.Module):", *indented(body)])


def _pair_forward(frame: Frame) -> list[str]:
    first, lines = _forward_head(frame, "Loss", "The loss and its terms, from `noise` or from a new draw.")
    graph = frame.graph
    for_teacher = graph.ancestors(node.name for node in frame.nodes if node.name.startswith(TEACHER))
    for_student = graph.ancestors(node.name for node in frame.nodes if node.name.startswith(STUDENT))
    below_teacher = _descendants(graph, TEACHER)
    alone = {name for name in for_teacher - below_teacher if not graph.loops[name]}
    lines += frame.body(lambda node: node.name in alone)
    of_teacher = frame.body(lambda node: node.name in for_teacher)
    of_student = frame.body(lambda node: node.name in for_student)
    terms = [*frame.body(), f"return {_loss(frame)}"]
    body = [*of_teacher, *of_student, *terms]
    lines += ["", "# teacher: no gradient reaches it", *_alias("teacher", body)]
    lines += ["with torch.no_grad():", *indented(of_teacher)] if of_teacher else []
    lines += ["", "# student", *_alias("student", body), *of_student]
    return [first, *indented([*lines, "", "# terms", *terms])]


def _descendants(graph: Graph, prefix: str) -> set[str]:
    """Nodes whose name begins with ``prefix``, and all that depend on one."""
    found = set[str]()
    for node in graph:
        if node.name.startswith(prefix) or not found.isdisjoint(node.inputs):
            found.add(node.name)
    return found


def _alias(model: str, lines: list[str]) -> list[str]:
    """A variable for the model, where ``lines`` read it."""
    tree = ast.parse("\n".join(["def body():", *indented(lines)]))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return [f"{model} = self.{model}"] if model in names else []


def _term_titles(graph: Graph) -> dict[str, str]:
    terms = [(node, *name.partition(".")) for name, node in graph.outputs.items()]
    return {node: f"{kind} of site {site!r}" for node, kind, _, site in terms if site}


def _loss(frame: Frame) -> str:
    outputs = frame.graph.outputs
    groups = {kind: _group(frame, outputs, f"{kind}.") for kind in ("surrogate", "latent")}
    return f"Loss({frame.value(outputs['total'])}, {', '.join(f'{kind}={text}' for kind, text in groups.items())})"


def _group(frame: Frame, outputs: Mapping[str, str], prefix: str) -> str:
    entries = [frame.entry(name, node, prefix) for name, node in outputs.items() if name.startswith(prefix)]
    return dict_text(entries)


# text -> module


def loaded(text: str, name: str) -> ModuleType:
    """The text as a real module: of one text there is one module, and tracebacks show its lines."""
    key = hashlib.sha256(text.encode()).hexdigest()[:12]
    title = f"{_MODULES}.{identifier(name)}_{key}"
    if title in sys.modules:
        return sys.modules[title]
    file = f"<{title}>"
    module = ModuleType(title)
    module.__file__ = file
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    sys.modules[title] = module  # classes are looked up there by pickle and by inspect
    try:
        exec(compile(text, file, "exec", dont_inherit=True), vars(module))
    except BaseException:
        del sys.modules[title]
        raise
    return module


class RealConstants(TorchFunctionMode):
    """Under ``torch.device("meta")``: literal tensors keep their values, on ``device``."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.tensor:
            kwargs.setdefault("device", self._device)
        return func(*args, **kwargs)


def _device_of(emitted: _Emitted) -> torch.device:
    for part in emitted.parts:
        for _, tensor in tensors_of(part.state.root):
            return tensor.device
    return torch.get_default_device()


def share(live: nn.Module, made: nn.Module, *, frozen: bool) -> None:
    """Give ``made`` the tensors of ``live``, which has its structure, and the modes of its submodules."""
    views = dict[int, Tensor]()
    for path, source in all_modules(live):
        target = made.get_submodule(path)
        for name, tensor in parameters_of(source).items():
            if tensor is not None:
                _set(target, name, _frozen(tensor, views) if frozen else tensor)
        for name, tensor in buffers_of(source).items():
            if tensor is not None:
                buffers_of(target)[name] = views.setdefault(id(tensor), tensor.detach()) if frozen else tensor
        if path:
            target.training = source.training and not frozen


def _frozen(tensor: Tensor, views: dict[int, Tensor]) -> nn.Parameter:
    """A parameter of the same values that takes no gradient; tied ones stay tied."""
    view = views.setdefault(id(tensor), nn.Parameter(tensor.detach(), requires_grad=False))
    assert isinstance(view, nn.Parameter)
    return view


def _set(module: nn.Module, name: str, tensor: Tensor) -> None:
    if isinstance(tensor, nn.Parameter):
        setattr(module, name, tensor)  # recurrent modules keep a list of them
    else:
        parameters_of(module)[name] = tensor  # type: ignore[assignment]
