"""What a recording refuses or warns of, in words."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from dgmcompile.diagnostics import Diagnostic, Location


@dataclass(frozen=True)
class _Read:
    """A way in which a tensor's value becomes a Python value."""

    code: str
    what: str
    help: str


_READS = {
    "branch": _Read(
        code="value-branch",
        what="decides a Python branch",
        help="use torch.where, or let the branch depend on an input's shape only",
    ),
    "loop": _Read(
        code="value-loop",
        what="decides how often a Python loop runs",
        help="run a fixed number of steps, and leave out by torch.where or poutine.mask what does not count",
    ),
    "index": _Read(
        code="value-index",
        what="becomes a Python index ({word})",
        help="index a tensor by the tensor itself: table[k], torch.gather; stack a list first",
    ),
    "number": _Read(
        code="value-number",
        what="becomes a Python number ({word})",
        help="keep it a tensor; a number that the caller knows can be passed as an argument",
    ),
    "list": _Read(
        code="value-list",
        what="becomes a Python list ({word})",
        help="iterate over the tensor itself, or compute with all of it at once",
    ),
    "array": _Read(
        code="value-array",
        what="leaves torch as memory ({word})",
        help="use the torch function that does the same",
    ),
    "text": _Read(
        code="value-text",
        what="becomes text ({word})",
        help="print or log it where it is formatted; text that is kept may decide anything",
    ),
}

_KINDS = {
    "__bool__": "branch",
    "is_nonzero": "branch",
    "equal": "branch",
    "allclose": "branch",
    "__contains__": "branch",
    "__index__": "index",
    "tolist": "list",
    "__str__": "text",
    "__repr__": "text",
    "__format__": "text",
}

MEMORY = frozenset(["numpy", "__array__", "__dlpack__", "storage", "untyped_storage", "data_ptr", "__reduce_ex__"])
"""Methods that give the program a tensor's memory."""


GRADIENT = frozenset(["backward", "grad", "register_hook", "register_post_accumulate_grad_hook"])
"""Calls of autograd's that are no part of a graph."""


def value_read(word: str, origin: str, location: Location | None, use: str | None = None) -> Diagnostic:
    """A tensor's value becomes a Python value: ``word`` is the method that read it, ``use`` what it decides."""
    if word in GRADIENT:
        return gradient_call(word, location)
    read = _READS[use or _KINDS.get(word, "array" if word in MEMORY else "number")]
    return Diagnostic(
        code=read.code,
        message=f"the value of {origin} {read.what.format(word=word)}",
        location=location,
        notes=("the compiled form would keep today's value after training",) if origin.startswith("parameter") else (),
        help=read.help,
    )


def value_shape(name: str, origin: str, location: Location | None) -> Diagnostic:
    """How many elements the result has depends on values."""
    return Diagnostic(
        code="value-shape",
        message=f"the shape of what {name} returns depends on the value of {origin}",
        location=location,
        help="keep the shape fixed: torch.where or a product with the mask instead of a selection",
    )


def value_slice(origin: str, location: Location | None) -> Diagnostic:
    """A bound of a slice is a tensor."""
    return Diagnostic(
        code="value-slice",
        message=f"the value of {origin} bounds a slice",
        location=location,
        help="keep all elements, and leave out by torch.where those beyond torch.arange(n) < k",
    )


def value_size(name: str, origin: str, location: Location | None) -> Diagnostic:
    """A tensor stands where a function takes a whole number, which torch then reads by itself."""
    return Diagnostic(
        code="value-size",
        message=f"the value of {origin} becomes a whole number that {name} takes: a size, a dim or an offset",
        location=location,
        help="keep sizes fixed; to move or choose elements, index by a tensor (torch.gather, x[index])",
    )


def view_write(location: Location | None) -> Diagnostic:
    """A write into memory that several tensors show, in a way that cannot be followed."""
    return Diagnostic(
        code="view-write",
        message="a view of this tensor was written in place, and the memory that it shares cannot be followed",
        location=location,
        help="write x = x.contiguous().clone() first, or build the tensor out of place (torch.where, torch.cat)",
    )


def overlapping_write(location: Location | None) -> Diagnostic:
    """A write into a tensor that has several elements in one place of its memory, as ``unfold`` returns one."""
    return Diagnostic(
        code="view-write",
        message="several elements of the tensor that is written here are one place in memory: what is left there "
        "depends on the order of the writes",
        location=location,
        help="write into a clone, or add up what belongs together out of place (torch.nn.functional.fold)",
    )


def hidden_write(name: str, location: Location | None) -> Diagnostic:
    """A call that wrote into one of its arguments, where nothing says what."""
    return Diagnostic(
        code="hidden-write",
        message=f"{name} writes into one of its arguments, and what it wrote is read again",
        location=location,
        help="use a call that returns its result instead",
    )


def foreign_write(location: Location | None) -> Diagnostic:
    """Memory that a tensor shares with an array was written through the array."""
    return Diagnostic(
        code="foreign-write",
        message="a tensor's memory, which leaves torch here, is written outside of torch and then read again",
        location=location,
        help="write by torch calls, or make a tensor of the array when it is complete",
    )


def gradient_write(location: Location | None) -> Diagnostic:
    """A write through ``.data``: what autograd has saved for the backward pass changes unnoticed."""
    return Diagnostic(
        code="gradient-write",
        message="a tensor is written through .data, of which autograd notices nothing",
        location=location,
        notes=("gradients would be those of the values before the write, or wrong, as the calls around it happen",),
        help="write under torch.no_grad(), where autograd notices, or compute a new tensor",
    )


def mask_write(kind: str, site: str, location: Location | None) -> Diagnostic:
    """Pyro reads a site's mask when it computes the log-probability: after the write."""
    return Diagnostic(
        code="mask-write",
        message=f"the {kind} of site {site!r} is written in place later on",
        location=location,
        notes=("in Pyro all sites that hold it see its last value, whatever it was when they were drawn",),
        help=f"make a new {kind} at each step, as mask = mask & more, and enter poutine.{kind} there",
    )


def state_write(path: str, location: Location | None) -> Diagnostic:
    """The model changes a tensor that the next call reads."""
    return Diagnostic(
        code="state-write",
        message=f"the model writes into {path!r}, which it reads: the next call would find another value",
        location=location,
        help="write into a clone, or keep the state outside of the model and pass it as an argument; what moves it in "
        "training only (spectral_norm) is recorded after eval()",
    )


def unrecorded_tensor(location: Location | None) -> Diagnostic:
    """A tensor that carries a gradient comes from nowhere."""
    return Diagnostic(
        code="unrecorded-tensor",
        message="a tensor that was computed out of sight is used in the model",
        location=location,
        notes=("it was computed before the model ran, or by code that is not Python's, as a scripted function",),
        help="compute it inside the model by plain torch calls, from the parameters themselves",
    )


def gradient_call(name: str, location: Location | None) -> Diagnostic:
    """The model asks autograd for something while it runs."""
    return Diagnostic(
        code="gradient-call",
        message=f"the model calls autograd's {name}, which is no part of a graph",
        location=location,
        help="write the derivative out by torch calls; leave hooks and backward to the training loop",
    )


def layout(what: str, location: Location | None) -> Diagnostic:
    """A sparse tensor, or another one that is no plain block of memory."""
    return Diagnostic(
        code="tensor-layout",
        message=f"{what} a tensor that is not dense",
        location=location,
        help="compute with dense tensors: x.to_dense() before the model, index_add or a matrix product inside",
    )


def kept_value(origin: str, location: Location | None) -> Diagnostic:
    """A tensor that an earlier call of the model made is read."""
    return Diagnostic(
        code="kept-value",
        message=f"a tensor is read that an earlier call of the model computed from {origin}",
        location=location,
        help="compute it at every call, and keep no tensor in a cache, an attribute or a global",
    )


def fresh_parameter(path: str, location: Location | None) -> Diagnostic:
    """Every call of the model makes a parameter of its own."""
    return Diagnostic(
        code="fresh-parameter",
        message=f"the model makes the parameter {path!r} anew at every call",
        location=location,
        help="make modules and parameters once, before the model runs; a copy without a gradient is w.detach()",
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


def higher_order(name: str, location: Location | None) -> Diagnostic:
    """An operator that runs graphs of its own, as exported programs have it for branches and loops."""
    if name in ("cond", "while_loop"):
        return Diagnostic(
            code="value-branch",
            message=f"in torch.{name} the value of a tensor decides what runs",
            location=location,
            help="compute both ways, or as many steps as may be needed, and choose by torch.where",
        )
    return Diagnostic(
        code="unknown-call",
        message=f"{name} runs a graph of its own, which cannot be followed",
        location=location,
        help="write it by torch calls in the program itself",
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
        code="unknown-literal",
        message=f"{name} is given a {kind}, which is no part of a graph",
        location=location,
        help="pass tensors and plain Python values to torch functions and distributions",
    )


def autocast(location: Location | None) -> Diagnostic:
    """A call under ``torch.autocast``."""
    return Diagnostic(
        code="autocast",
        message="the model switches autocast on by itself, for this call and others",
        location=location,
        help="leave torch.autocast to the caller: wrap the compiled module's call in it",
    )


def moving_statistics(path: str, location: Location | None) -> Diagnostic:
    """A batch norm whose mode is an argument of the call, and says training."""
    return Diagnostic(
        code="moving-statistics",
        severity="warning",
        message=f"this normalises by the statistics of each batch, whatever the mode, and moves {path!r} at every call",
        location=location,
        notes=("those of a teacher are left as they are",),
        help="call eval() before the model is exported, or pass training=self.training",
    )


def site_name(given: object, location: Location | None) -> Diagnostic:
    """A site is called by something that is no name."""
    return Diagnostic(
        code="site-name",
        message=f"a site is called {given!r}: a name is a text that is not empty",
        location=location,
        help="call it by a text, as in pyro.sample('z', ...), dgm.site('z', ...) or names={'loc': 'z'}",
    )


def stray_random(name: str, location: Location | None) -> Diagnostic:
    """Random numbers that no site accounts for, by a function that has no law here."""
    if name.rpartition(".")[2] == "randperm":
        return drawn_subsample(location)
    return Diagnostic(
        code="stray-random",
        message=f"{name} draws random numbers that are no random variable",
        location=location,
        help="draw them by torch.rand, torch.randn and the like (docs/pytorch.md), by a distribution, by pyro.sample, "
        "or by a submodule (nn.Dropout), which the graph keeps whole",
    )


def beside_sites(name: str, location: Location | None) -> Diagnostic:
    """A draw by torch itself in a program that has sites of Pyro's."""
    return Diagnostic(
        code="stray-random",
        message=f"{name} draws random numbers that are no random variable",
        location=location,
        help="draw them by pyro.sample, as the model's other variables, or by a submodule (nn.Dropout), which the "
        "graph keeps whole",
    )


def foreign_random(names: tuple[str, ...], found: str, location: Location | None) -> Diagnostic:
    """Random numbers of another generator than torch's reach the graph."""
    return Diagnostic(
        code="foreign-random",
        message=f"random numbers of {' and '.join(names)} decide what the program does here: {found}",
        location=location,
        help="draw them by pyro.sample or by torch, or pass them as an argument",
    )


def foreign_draws(names: tuple[str, ...]) -> Diagnostic:
    """Random numbers of another generator than torch's are drawn, and have done nothing as yet."""
    return Diagnostic(
        code="foreign-random",
        message=f"random numbers of {' and '.join(names)} are drawn, which may decide what the program does",
        notes=("nothing of it was seen when it was recorded, but a rare branch is not seen each time",),
        help="draw them by pyro.sample or by torch, or pass them as an argument",
    )


def unstable(found: str, location: Location | None) -> Diagnostic:
    """Two calls of the program are two programs."""
    return Diagnostic(
        code="unstable-recording",
        message=f"run again with other random values and inputs, the program does something else here: {found}",
        location=location,
        notes=("a value left torch (Python state, a foreign library) and came back as a constant",),
        help="keep random and input values in tensors, and the model free of state that changes from call to call",
    )


def drawn_subsample(location: Location | None) -> Diagnostic:
    """A plate that draws its own mini-batch, whose indices the program reads."""
    return Diagnostic(
        code="drawn-subsample",
        message="a random permutation, as a subsampling plate draws it, is read by the program itself",
        location=location,
        help="pass it as an argument; a mini-batch in pyro.plate(name, size, subsample_size=len(batch))",
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


def certain_target(name: str, draws: bool, location: Location | None) -> Diagnostic:
    """What a program of plain PyTorch returns that is the same at every draw.

    A warning where it draws something, which then has nothing to do with the result.
    """
    return Diagnostic(
        severity="warning" if draws else "note",
        code="certain-target",
        message=f"{name!r} depends on nothing that the program draws: it is compared by its squared distance",
        location=location,
        help="if these are the parameters of a law, say so, as in dgm.target('label', Categorical(logits=logits))",
    )


def whole_target(name: str, location: Location | None) -> Diagnostic:
    """A result of whole numbers or truth values that has no law of its own."""
    return Diagnostic(
        severity="warning",
        code="whole-target",
        message=f"{name!r} has whole numbers without a law: it is compared by its squared distance, with no gradient",
        location=location,
        help="return the draws themselves, put together by nothing but cat, stack and assignments, or their law, "
        "as in dgm.target('label', Categorical(logits=logits))",
    )


def written_out(steps: int, reason: str, location: Location | None) -> Diagnostic:
    """Steps that come again and again, and are no loop."""
    return Diagnostic(
        severity="note",
        code="written-out",
        message=f"{steps} steps that look alike are written out one by one: {reason}",
        location=location,
        help="let each step do the same with what the step before gave, and with its own part of the data, x[:, t]",
    )


def kept_noise(reason: str, family: str, location: Location | None) -> Diagnostic:
    """Noise of a program of plain PyTorch that is made into no random variable, or a draw from a fixed ``family``."""
    lost = f"the {family} that is drawn here is a variable by itself, and what is made of it is none"
    return Diagnostic(
        severity="note",
        code="kept-noise",
        message=f"{lost if family else 'the noise that is drawn here has no latent term'}: {reason}",
        location=location,
        help="if what is made of it is to be compared, assign that to a variable, draw it by a distribution, or spell "
        "it as mean + scale * noise",
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


def random_call(name: str, location: Location | None) -> Diagnostic:
    """A function that draws random numbers by itself, as dropout in training mode does."""
    return Diagnostic(
        severity="warning",
        code="random-call",
        message=f"{name} draws random numbers by itself, at every call anew",
        location=location,
        help="call it with training=False (export model.eval(), not the model), or know that its noise is not shared "
        "between teacher and student",
    )


def fixed_random(name: str, location: Location | None) -> Diagnostic:
    """A draw from a generator that the model seeds or puts back: the same numbers at every call, or twice."""
    return Diagnostic(
        code="fixed-random",
        message=f"{name} draws from a generator that the model seeds by itself, or puts back to where it was",
        location=location,
        notes=("the numbers are the same at every call, or those of another draw: no new random variable",),
        help="seed the generator outside of the model; draw once what is to be used twice",
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


def plate_name(name: str, location: Location | None) -> Diagnostic:
    """A plate, and another plate or a site."""
    return Diagnostic(
        code="repeated-site",
        message=f"the name {name!r} is used twice, at least once by a plate",
        location=location,
        notes=("a plate's indices are a site of its name, so Pyro's inference refuses the program as well",),
        help="give each plate a name of its own, or make it once and enter it twice",
    )
