"""What a recording refuses or warns of, in words."""

from __future__ import annotations

from torch import nn

from dgmcompile.diagnostics import Diagnostic, Location

_BRANCHES = ("__bool__", "is_nonzero", "equal", "allclose", "__contains__", "is_same_size")


def value_read(word: str, origin: str, location: Location | None) -> Diagnostic:
    """A tensor's value becomes a Python value: ``word`` is the method that read it."""
    notes = ("the compiled form would keep today's value after training",) if origin.startswith("parameter") else ()
    if word in _BRANCHES:
        return Diagnostic(
            code="value-branch",
            message=f"the value of {origin} decides a Python branch",
            location=location,
            notes=notes,
            help="use torch.where, or let the branch depend on an input's shape only",
        )
    if word in ("__index__", "__int__"):
        return Diagnostic(
            code="value-escape",
            message=f"the value of {origin} becomes a Python number ({word})",
            location=location,
            notes=notes,
            help="index with the tensor itself (table[k], torch.gather), or pass the number as an int argument",
        )
    return Diagnostic(
        code="value-escape",
        message=f"the value of {origin} leaves torch through {word}",
        location=location,
        notes=notes,
        help="keep it a tensor; a number that the caller knows can be passed as an argument",
    )


def value_shape(name: str, origin: str, location: Location | None) -> Diagnostic:
    """How many elements the result has depends on values."""
    return Diagnostic(
        code="value-shape",
        message=f"the shape of what {name} returns depends on the value of {origin}",
        location=location,
        help="keep the shape fixed: torch.where or a product with the mask instead of a selection",
    )


def view_write(location: Location | None) -> Diagnostic:
    """A write into memory that several tensors show, in a way that cannot be followed."""
    return Diagnostic(
        code="view-write",
        message="a view of this tensor was written in place, and the memory that it shares cannot be followed",
        location=location,
        help="write x = x.contiguous().clone() first, or build the tensor out of place (torch.where, torch.cat)",
    )


def hidden_write(name: str, location: Location | None) -> Diagnostic:
    """A call that wrote into one of its arguments, where nothing says what."""
    return Diagnostic(
        code="hidden-write",
        message=f"{name} writes into one of its arguments, and what it wrote is read again",
        location=location,
        help="use a call that returns its result instead",
    )


def gradient_write(location: Location | None) -> Diagnostic:
    """A write that autograd does not see, into a tensor that carries a gradient."""
    return Diagnostic(
        code="gradient-write",
        message="a tensor that carries a gradient is written in place where autograd does not see it",
        location=location,
        help="build the new value out of place, with .detach() where no gradient is wanted",
    )


def state_write(path: str, location: Location | None) -> Diagnostic:
    """The model changes a tensor that the next call reads."""
    return Diagnostic(
        code="state-write",
        message=f"the model writes into {path!r}, which it reads: the next call would find another value",
        location=location,
        help="write into a clone, or keep the state outside of the model and pass it as an argument",
    )


def unrecorded_tensor(location: Location | None) -> Diagnostic:
    """A tensor that carries a gradient comes from nowhere."""
    return Diagnostic(
        code="unrecorded-tensor",
        message="a tensor that was computed from parameters out of sight is used in the model",
        location=location,
        notes=("it was computed before the model ran, or by a scripted, compiled or vmapped function",),
        help="compute it inside the model by plain torch calls, from the parameters themselves",
    )


def custom_function(name: str, location: Location | None) -> Diagnostic:
    """A `torch.autograd.Function`, whose gradient is its own."""
    return Diagnostic(
        code="custom-function",
        message=f"{name} is a torch.autograd.Function: its gradient is no part of a graph",
        location=location,
        help="write it by torch calls, as (hard - soft).detach() + soft for a straight-through gradient",
    )


def unknown_call(name: str, location: Location | None) -> Diagnostic:
    """A torch function without a public name."""
    return Diagnostic(
        code="unknown-call",
        message=f"{name} is no public torch function that a graph can name",
        location=location,
        help="use the public torch function that does the same",
    )


def functional_transform(location: Location | None) -> Diagnostic:
    """Inside ``torch.vmap`` or ``torch.func.grad``, whose tensors are stand-ins."""
    return Diagnostic(
        code="functional-transform",
        message="what torch.vmap or torch.func runs cannot be followed",
        location=location,
        help="write it for the whole batch, by torch calls that broadcast",
    )


def unknown_literal(name: str, kind: str, location: Location | None) -> Diagnostic:
    """An argument that no graph can hold."""
    return Diagnostic(
        code="unknown-argument",
        message=f"{name} is given a {kind}, which is no part of a graph",
        location=location,
        help="pass tensors and plain Python values to torch functions",
    )


def autocast(location: Location | None) -> Diagnostic:
    """A call under ``torch.autocast``."""
    return Diagnostic(
        code="autocast",
        message="the model switches autocast on by itself",
        location=location,
        help="leave torch.autocast to the caller: wrap the compiled module's call in it",
    )


def stray_random(name: str, location: Location | None) -> Diagnostic:
    """Random numbers that no site accounts for."""
    if name.rpartition(".")[2] == "randperm":
        return drawn_subsample(location)
    return Diagnostic(
        code="stray-random",
        message=f"{name} draws random numbers outside of pyro.sample",
        location=location,
        help="draw them by pyro.sample, or by a submodule (nn.Dropout), which the graph keeps whole",
    )


def drawn_subsample(location: Location | None) -> Diagnostic:
    """A plate that draws its own mini-batch, whose indices the program reads."""
    return Diagnostic(
        code="stray-random",
        message="a random permutation, as a subsampling plate draws it, is read outside of pyro.sample",
        location=location,
        help="pass the mini-batch as an argument, in pyro.plate(name, size, subsample_size=len(batch))",
    )


def chosen_targets(names: tuple[str, ...]) -> Diagnostic:
    """The program does not say which of its sites are targets."""
    return Diagnostic(
        severity="note",
        code="chosen-targets",
        message=f"nothing is observed, so the targets are the sites that no other depends on: "
        f"{', '.join(map(repr, names))}",
        help="name others: --target SITE, or targets= in Python; 'all' takes every site",
    )


def random_module(path: str, module: nn.Module, location: Location | None) -> Diagnostic:
    """A submodule that draws random numbers by itself, as dropout in training mode does."""
    return Diagnostic(
        severity="warning",
        code="random-module",
        message=f"submodule {path!r} ({type(module).__name__}) draws random numbers by itself",
        location=location,
        help="call .eval() on it, or know that its noise is not shared between teacher and student",
    )


def frozen_buffer(path: str, word: str, location: Location | None) -> Diagnostic:
    """A buffer's value became a Python value."""
    return Diagnostic(
        severity="warning",
        code="frozen-buffer",
        message=f"the value of {path!r} leaves torch through {word} and is fixed in the graph",
        location=location,
        help="keep it a tensor, so that other weights may bring another value",
    )


def frozen_mode(mode: str, location: Location | None) -> Diagnostic:
    """What the program does depends on ``module.training``."""
    return Diagnostic(
        severity="warning",
        code="frozen-mode",
        message=f"what the model does here depends on its mode; the graph is that of {mode} mode",
        location=location,
        help="use a submodule that knows its mode (nn.Dropout, not F.dropout), or trace in the mode that you need",
    )
