"""A live submodule as the expression that constructs one like it, and the classes that this takes."""

from __future__ import annotations

import contextlib
import inspect
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from dgmcompile.codegen.expressions import Names, constant_text, dtype_argument, literal
from dgmcompile.codegen.names import Namespace, class_name, docstring, is_plain
from dgmcompile.codegen.state import CONTAINERS, access, called_path
from dgmcompile.codegen.statements import Frame, signature
from dgmcompile.codegen.tables import (
    buffers_of,
    children_of,
    has_hooks,
    is_constant,
    modules_of,
    own_tensors,
    parameters_of,
    tensors_of,
)
from dgmcompile.diagnostics import CompileError, Diagnostic
from dgmcompile.ir.binding import Submodule
from dgmcompile.ir.graph import Constant, Formula, Graph

Scope = Mapping[str, Submodule]
"""Submodules by their path relative to the module in question."""


def not_emittable(path: str, why: str, *notes: str) -> CompileError:
    """The refusal of a submodule that cannot be written down."""
    return CompileError(
        Diagnostic(
            code="module-not-emittable",
            message=f"submodule {path!r} cannot be written as source: {why}",
            notes=notes,
            help="write its forward in terms of torch's own modules and of parameters that it holds itself",
        )
    )


@dataclass
class Classes:
    """The classes of one file, each text once.

    Args:
        namespace: of the file.
        reserved: names of the file that no local variable takes.
        formulas: filled with the formulas that the classes call.
    """

    namespace: Namespace
    reserved: frozenset[str]
    formulas: dict[str, Formula]
    texts: dict[str, str] = field(default_factory=dict[str, str])
    _named: dict[tuple[str, str], str] = field(default_factory=dict[tuple[str, str], str])

    def constructor(self, module: nn.Module, path: str, scope: Scope, *, called: bool = False) -> str:
        """Expression that makes a module of the same structure as ``module``.

        Args:
            module: the live module.
            path: of it, for messages.
            scope: submodules below it, by relative path; "" is itself.
            called: is its ``forward`` used, though ``scope`` may not say so?
        Errors:
            `CompileError` ``module-not-emittable``.
        """
        own = scope.get("")
        called = called or own is not None
        if own is not None and own.body is not None:
            scope = {**scope, **own.body.binding.modules}
        if (kind := torch_class(module)) is not None and (own is None or own.body is None or kind in CONTAINERS):
            if kind in CONTAINERS:
                return self._container(module, kind, path, scope, called and kind is nn.Sequential)
            return leaf_constructor(module, kind, path)
        if own is not None and own.body is not None:
            return self._instance(module, own.body, path, scope)
        if called:
            raise not_emittable(path, f"{type(module).__name__} is not torch's own, and its forward was not recorded")
        return self._holder(module, path, scope)

    def _children(self, module: nn.Module, path: str, scope: Scope, *, called: bool = False) -> dict[str, str]:
        return {
            name: self.constructor(child, f"{path}.{name}", below(scope, name), called=called)
            for name, child in children_of(module)
        }

    def _container(self, module: nn.Module, kind: type[nn.Module], path: str, scope: Scope, called: bool) -> str:
        children = self._children(module, path, scope, called=called)
        if kind in (nn.ParameterList, nn.ParameterDict):
            children |= {name: tensor_text(p) for name, p in own_tensors(module)}
        dtype = _common_suffix(list(children.values()))
        children = {name: text.removesuffix(dtype) for name, text in children.items()}
        name = f"nn.{kind.__name__}"
        if kind in (nn.ModuleDict, nn.ParameterDict):
            inside = "{" + ", ".join(f"{key!r}: {text}" for key, text in children.items()) + "}"
        elif list(children) != [str(i) for i in range(len(children))]:
            inside = "OrderedDict([" + ", ".join(f"({key!r}, {text})" for key, text in children.items()) + "])"
        else:
            inside = _listed(list(children.values()), starred=kind is nn.Sequential)
        return f"{name}({inside}){dtype}"

    def _holder(self, module: nn.Module, path: str, scope: Scope) -> str:
        """A module of which only the state is used."""
        state = self._children(module, path, scope)
        constants = dict[str, str]()
        for name, tensor in own_tensors(module):
            if is_constant(module, name):
                constants[name] = value_text(tensor)
            else:
                state[name] = tensor_text(tensor, parameter=name in parameters_of(module))
        parts = ["{" + ", ".join(f"{key!r}: {text}" for key, text in constants.items()) + "}"] if constants else []
        parts += [f"{name}={text}" for name, text in state.items() if is_plain(name)]
        if odd := {name: text for name, text in state.items() if not is_plain(name)}:
            parts.append("**{" + ", ".join(f"{name!r}: {text}" for name, text in odd.items()) + "}")
        return f"State({', '.join(parts)})"

    def _instance(self, module: nn.Module, body: Graph, path: str, scope: Scope) -> str:
        """A module of the user's own class, of which a definition is written."""
        _check_calls(module, body, path)
        children = self._children(module, path, scope)
        arguments = Namespace(self.reserved)
        values, lines = list[str](), list[str]()
        annotations = list[str]()
        for name, text in children.items():
            argument = arguments.new(name, "child")
            values.append(f"{argument}={text}")
            annotations.append(f"{argument}: nn.Module")
            lines.append(f"self.{name} = {argument}" if is_plain(name) else f"self.add_module({name!r}, {argument})")
        for name, tensor in parameters_of(module).items():
            if tensor is not None:
                argument = arguments.new(name, "parameter")
                values.append(f"{argument}={tensor_text(tensor)}")
                annotations.append(f"{argument}: nn.Parameter")
                plain = f"self.{name} = {argument}"
                lines.append(plain if is_plain(name) else f"self.register_parameter({name!r}, {argument})")
        for name, tensor in buffers_of(module).items():
            if tensor is not None:
                argument = arguments.new(name, "buffer")
                constant = is_constant(module, name)
                values.append(f"{argument}={value_text(tensor) if constant else tensor_text(tensor, parameter=False)}")
                annotations.append(f"{argument}: Tensor")
                lines.append(buffer_statement(name, argument, persistent=not constant))
        constants = Constants(body, module)
        text = "\n".join(
            [
                *indented([*buffer_annotations([*buffers_of(module), *constants.names])]),
                "",
                f"    def __init__(self{', *, ' if annotations else ''}{', '.join(annotations)}) -> None:",
                *indented(["super().__init__()", *lines, *constants.statements()], 2),
                "",
                *indented(self._forward(module, body, constants)),
            ]
        )
        return f"{self._class(type(module).__name__, text)}({', '.join(values)})"

    def _class(self, wanted: str, text: str) -> str:
        """The name of the class whose lines are ``text``; instances of one text share it."""
        wanted = class_name(wanted, "Block")
        if (wanted, text) not in self._named:
            name = self._named[wanted, text] = self.namespace.new(wanted)
            title = docstring(f"Submodule `{wanted}` of the program.")
            self.texts[name] = f"class {name}(nn.Module):\n    {title}\n\n{text}"
        return self._named[wanted, text]

    def _forward(self, module: nn.Module, body: Graph, constants: Constants) -> list[str]:
        frame = Frame(
            graph=body,
            results=tuple(body.outputs.values()),
            parameter=lambda path: access(module, path, "self"),
            module=lambda path: access(module, path, "self"),
            constants=constants.expressions,
            anchor=lambda dtype: anchor(module, "self", dtype),
            reserved=self.reserved,
            formulas=self.formulas,
            returns=set(body.outputs) == {"return"},
        )
        parameters, _ = signature(frame)
        lines = [*frame.head(), *frame.body()]
        result = returned({key: frame.value(name) for key, name in body.outputs.items()})
        return [f"def forward({', '.join(['self', *parameters])}) -> Any:", *indented([*lines, f"return {result}"])]


class Constants:
    """The literal tensors of a graph: buffers that are left out of the state dict."""

    def __init__(self, graph: Graph, root: nn.Module) -> None:
        taken = Namespace({*dir(nn.Module), *modules_of(root), *parameters_of(root), *buffers_of(root)})
        self._nodes = [node for node in graph if isinstance(node, Constant)]
        self.names = [taken.new(node.name, "constant") for node in self._nodes]
        self.expressions = {node.name: f"self.{name}" for node, name in zip(self._nodes, self.names, strict=True)}

    def statements(self) -> list[str]:
        """The lines of ``__init__`` that register them."""
        pairs = zip(self._nodes, self.names, strict=True)
        return [buffer_statement(name, constant_text(node), persistent=False) for node, name in pairs]


def _check_calls(module: nn.Module, body: Graph, path: str) -> None:
    """Is what the body calls either torch's own or recorded?"""
    for node in body:
        if (called := called_path(node)) and called not in body.binding.modules:
            try:
                ours = torch_class(module.get_submodule(called)) is None
            except AttributeError:
                ours = True
            if ours:
                raise not_emittable(f"{path}.{called}", "it is called, but its forward was not recorded")


def buffer_statement(name: str, value: str, *, persistent: bool) -> str:
    return f"self.register_buffer({name!r}, {value}{'' if persistent else ', persistent=False'})"


def buffer_annotations(names: Iterable[str]) -> list[str]:
    """Type checkers do not see what ``register_buffer`` does."""
    return [f"{name}: Tensor" for name in names if is_plain(name)]


def indented(lines: Iterable[str], levels: int = 1) -> list[str]:
    """``lines`` (each may hold several), moved to the right."""
    return ["    " * levels + line if line else "" for text in lines for line in text.split("\n")]


def returned(values: Mapping[str, str]) -> str:
    """What a ``forward`` returns: ``return`` alone; ``0``, ``1``, ``1.0`` for (nested) tuples; else a dict.

    An element that nobody reads is None.
    """
    if set(values) == {"return"}:
        return values["return"]
    if not all(part.isdecimal() for key in values for part in key.split(".")):
        return "{" + ", ".join(f"{key!r}: {text}" for key, text in values.items()) + "}"
    return _tuple(values)


def _tuple(values: Mapping[str, str]) -> str:
    groups = dict[int, dict[str, str]]()
    for key, text in values.items():
        first, _, rest = key.partition(".")
        groups.setdefault(int(first), {})[rest] = text
    items = [_element(groups.get(place, {"": "None"})) for place in range(max(groups) + 1)]
    return f"({', '.join(items)}{',' if len(items) == 1 else ''})"


def _element(group: Mapping[str, str]) -> str:
    return group[""] if "" in group else _tuple(group)


def below(scope: Scope, name: str) -> Scope:
    """``scope`` seen from the child ``name``."""
    inside = {path.removeprefix(f"{name}."): sub for path, sub in scope.items() if path.startswith(f"{name}.")}
    return {**inside, "": scope[name]} if name in scope else inside


def anchor(root: nn.Module, base: str, dtype: torch.dtype | None) -> str | None:
    """Expression of the first tensor below ``root`` of that dtype (of any, where it is None)."""
    for path, tensor in tensors_of(root):
        if dtype is None or tensor.dtype == dtype:
            first = "." in path and next(root.parameters(), None) is tensor
            return f"next({base}.parameters())" if first else access(root, path, base)
    return None


def tensor_text(tensor: Tensor, *, parameter: bool = True) -> str:
    """A tensor of that shape and dtype, to be given its values by ``load_weights``."""
    shape = ", ".join(map(str, tensor.shape)) or "()"
    text = f"torch.zeros({shape}{dtype_argument(tensor.dtype)})"
    if not parameter:
        return text
    return f"nn.Parameter({text}{'' if tensor.requires_grad else ', requires_grad=False'})"


def value_text(tensor: Tensor) -> str:
    """A tensor with its values."""
    shape = tuple(tensor.shape)
    return constant_text(Constant(name="", value=cast(Any, tensor.detach()).tolist(), shape=shape, dtype=tensor.dtype))


def _listed(texts: Sequence[str], *, starred: bool) -> str:
    """Elements as arguments (where ``starred``) or as one list; equal ones are made in a loop."""
    if len(set(texts)) == 1 < len(texts) and "(" in texts[0]:
        loop = f"{texts[0]} for _ in range({len(texts)})"
        return f"*({loop})" if starred else loop
    inside = ", ".join(texts)
    return inside if starred else f"[{inside}]"


def _common_suffix(texts: Sequence[str]) -> str:
    """``.to(dtype)``, where all that has state ends with it."""
    ends = {_CAST.search(text) for text in texts if "(" in text}
    suffixes = {match.group() if match else "" for match in ends}
    suffix = next(iter(suffixes), "") if len(suffixes) == 1 else ""
    return suffix if all(text.endswith(suffix) for text in texts) else ""


_CAST = re.compile(r"\.to\(torch\.\w+\)$")


# torch's own modules


def torch_class(module: nn.Module) -> type[nn.Module] | None:
    """The class of torch whose instance ``module`` is, or would be without its own ``__init__``; or None."""
    for kind in type(module).__mro__:
        if kind.__module__.startswith("torch.nn.modules.") and kind is not nn.Module:
            return kind
        if kind.__module__.startswith("pyro.nn."):
            continue  # PyroModule[nn.Linear]
        members = set(vars(kind)) - {"__init__", "__module__", "__doc__", "__annotations__", "__parameters__"}
        members -= {"__static_attributes__", "__firstlineno__", "__qualname__", "__dict__", "__weakref__"}
        if members:
            return None
    return None


def leaf_constructor(module: nn.Module, kind: type[nn.Module], path: str) -> str:
    """Expression of a module of torch, found from its attributes and compared with it.

    Errors:
        `CompileError` ``module-not-emittable``.
    """
    if has_hooks(module):
        raise not_emittable(path, "it has hooks, which are no part of a module's structure")
    refusals = list[CompileError]()
    for collapse in (True, False):  # (3, 3), as convolutions keep their sizes, may have been 3
        try:
            text = _verified(module, kind, path, collapse)
            break
        except CompileError as refusal:
            refusals.append(refusal)
    else:
        raise refusals[0]
    parameters = list(module.parameters())
    if parameters and not any(p.requires_grad for p in parameters):
        text += ".requires_grad_(False)"
    return text


def _verified(module: nn.Module, kind: type[nn.Module], path: str, collapse: bool) -> str:
    try:
        positional, named = _arguments(module, kind, collapse)
    except _Unknown as unknown:
        raise not_emittable(path, f"{kind.__name__} takes {unknown}, which it does not keep") from None
    dtypes = {tensor.dtype for _, tensor in tensors_of(module) if tensor.is_floating_point()}
    cast_to = f".to({dtypes.pop()})" if len(dtypes) == 1 and dtypes != {torch.float32} else ""

    def text_with(named: Mapping[str, str]) -> str:
        arguments = [*positional, *(f"{name}={text}" for name, text in named.items())]
        return f"{_name_of(kind)}({', '.join(arguments)}){cast_to}"

    text = text_with(named)
    try:
        made = construct(text)
    except Exception as error:
        raise not_emittable(path, f"{text} fails: {error}") from error
    if differences := list(_differences(module, made)):
        raise not_emittable(path, f"{text} is another module", *differences)
    for name in list(named):  # `stride` of a pooling layer, say, is its `kernel_size` where it is not given
        shorter = {other: text for other, text in named.items() if other != name}
        with contextlib.suppress(ValueError):  # it needs one of several, as an output size or a ratio
            made = construct(text_with(shorter))
            if not any(_differences(module, made)) and _read(made, name) == _read(module, name):
                named = shorter
    return text_with(named)


def _name_of(kind: type[nn.Module]) -> str:
    if getattr(nn, kind.__name__, None) is kind:
        return f"nn.{kind.__name__}"
    return f"{kind.__module__}.{kind.__name__}"


class _Unknown(Exception):
    """An argument of a constructor that the module does not keep."""


_READ: dict[str, Callable[[Any], Any]] = {
    "bias": lambda m: _is_there(m.in_proj_bias if isinstance(m, nn.MultiheadAttention) else m.bias),
    "add_bias_kv": lambda m: m.bias_k is not None,
}
"""Arguments whose attribute means something else, or is called otherwise."""


def _is_there(value: object) -> bool:
    return value if isinstance(value, bool) else value is not None


def _read(module: nn.Module, argument: str) -> Any:
    """What the module keeps of an argument of its constructor."""
    return _READ[argument](module) if argument in _READ else getattr(module, argument)


def _arguments(module: nn.Module, kind: type[nn.Module], collapse: bool) -> tuple[list[str], dict[str, str]]:
    """Arguments that have no default, and by name those other than their default."""
    if isinstance(module, nn.RNNBase):
        return _recurrent_arguments(module)
    positional, named = list[str](), dict[str, str]()
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        skipped = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        if name in ("self", "device", "dtype") or name.startswith("_") or parameter.kind in skipped:
            continue
        try:
            value = _read(module, name)
        except AttributeError:
            if parameter.default is inspect.Parameter.empty:
                raise _Unknown(name) from None
            continue
        if parameter.default is inspect.Parameter.empty:
            positional.append(_value(_uniform(value) if collapse else value))
        elif parameter.default not in (value, _uniform(value)):
            named[name] = _value(_uniform(value) if collapse else value)
    return positional, named


def _recurrent_arguments(module: nn.RNNBase) -> tuple[list[str], dict[str, str]]:
    defaults: dict[str, Any] = {
        "num_layers": 1,
        "bias": True,
        "batch_first": False,
        "dropout": 0.0,
        "bidirectional": False,
    }
    if isinstance(module, nn.RNN):
        defaults["nonlinearity"] = "tanh"
    else:
        defaults["proj_size"] = 0
    if isinstance(module, nn.GRU):
        del defaults["proj_size"]
    read = {name: getattr(module, name) for name in defaults}
    named = {name: _value(value) for name, value in read.items() if value != defaults[name]}
    return [str(module.input_size), str(module.hidden_size)], named


def _uniform(value: Any) -> Any:
    """3 for ``(3, 3)``."""
    items: set[Any] = set(cast(tuple[Any, ...], value)) if isinstance(value, tuple) else set()
    return items.pop() if len(items) == 1 else cast(Any, value)


def _value(value: Any) -> str:
    if value is not None and not isinstance(value, bool | int | float | str | tuple | list):
        raise _Unknown(f"an argument of type {type(value).__name__}")
    return literal(value, Names(str, str))


@contextmanager
def plain_defaults():
    """What emitted text is written for: single precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def construct(text: str) -> nn.Module:
    """The module that an expression of `leaf_constructor` makes, without memory for its tensors."""
    with plain_defaults(), torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of arguments that are only tried
        return eval(text, {"nn": nn, "torch": torch, "math": math})


def _differences(live: nn.Module, made: nn.Module):
    """What tells the two apart: their state, their attributes, or how they print."""
    state, found = live.state_dict(), made.state_dict()
    for name in sorted(state.keys() | found.keys()):
        if name not in state or name not in found:
            yield f"one of them has no {name!r}"
        elif (state[name].shape, state[name].dtype) != (found[name].shape, found[name].dtype):
            yield f"{name!r} is {tuple(state[name].shape)} {state[name].dtype}, not {tuple(found[name].shape)}"
    if live.extra_repr() != made.extra_repr():
        yield f"it prints as ({live.extra_repr()}), not as ({made.extra_repr()})"
    for name, value in vars(made).items():
        simple = value is None or isinstance(value, bool | int | float | str | tuple)
        if simple and name != "training" and not name.startswith("__") and vars(live).get(name) != value:
            yield f"its {name} is {vars(live).get(name)!r}, not {value!r}"
