"""Random variables recovered from noise: ``mu + sigma * torch.randn_like(mu)`` is a draw from a Normal.

A program that draws noise and transforms it by itself is in auxiliary form already. Going through its calls, each value
that is made of one noise alone, element by element, has a law that follows from that of what it was made of: a multiple
of a Normal is a Normal. The last one on the way becomes the random variable, if nothing else reads what lies between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import torch

from dgmcompile.frontends.lifting.algebra import DISCRETE, Algebra, Known
from dgmcompile.frontends.lifting.forms import NOISES, START, Form, Operation, drawn, moved, nothing
from dgmcompile.frontends.lifting.idioms import with_idioms
from dgmcompile.frontends.lifting.noise_parts import TAKING_APART, parted
from dgmcompile.frontends.lifting.rules import ARITHMETIC, RULES, made, reads_same, shows_all
from dgmcompile.frontends.lifting.straight_through import with_straight_through
from dgmcompile.frontends.targets import DROPOUTS, short_name
from dgmcompile.ir.binding import Drawn, Step
from dgmcompile.ir.graph import (
    Arg,
    Call,
    Node,
    Noise,
    Ref,
    Sample,
    Site,
    is_size,
    leaves,
    refs_in,
)


@dataclass(frozen=True)
class Lifted:
    """The nodes, with samples for what was recovered.

    ``recovered``: what the noise of each sample was drawn for; ``parts``: those of noise that was taken apart;
    ``kept``: noise that is read and was not recovered, and why.
    """

    nodes: list[Node]
    recovered: Mapping[str, Drawn]
    parts: Mapping[str, tuple[tuple[str, Step], ...]]
    kept: Mapping[str, str]

    def draws(self, drawn: Sequence[str]) -> list[Drawn | None]:
        """What became of each draw; None of what nothing reads."""
        by_name = {node.name: node for node in self.nodes}

        def drawn_at(name: str) -> Drawn | None:
            if name in self.parts:
                parts = ((view, drawn_at(part)) for part, view in self.parts[name])
                return Drawn("", parts=tuple((view, part) for view, part in parts if part is not None))
            if name in self.recovered:
                return self.recovered[name]
            return Drawn(name, is_value=isinstance(by_name[name], Sample)) if name in by_name else None

        return [drawn_at(name) for name in drawn]

    def around(self, of_noise: Mapping[str, str]) -> dict[str, str]:
        """What receives that of which each recovered variable is part, as of its noise."""
        return {
            drawn.node.removesuffix(".draw"): of_noise[noise]
            for noise, drawn in self.recovered.items()
            if noise in of_noise
        }


def lifted(
    nodes: Sequence[Node],
    variables: Mapping[str, str],
    weak: Mapping[str, str],
    around: Mapping[str, str],
    known: Known,
) -> Lifted:
    """Recover what can be; noise that is not recovered stays noise.

    Args:
        variables: node -> the program's variable for its value.
        weak: node -> what a graph of fx calls it, which is a name if there is no other.
        around: noise -> the program's variable for what it is part of, after which a label or a coin is called.
        known: what is known of the values of nodes.
    """
    scaled, drawn_as = _with_scaled_noise(nodes, known)
    apart = parted(with_straight_through(with_idioms(_with_standard_laws(scaled, known))))
    found = _Forms(apart.nodes, weak, around, known)
    new, dropped, recovered, reasons = dict[str, list[Node]](), set[str](), drawn_as, dict[str, str]()
    for noise in (node for node in apart.nodes if found.is_noise(node)):
        chain = found.chain(noise.name, variables)
        if isinstance(noise, Sample) and found.is_variable_by_itself(noise.name):
            continue  # which it is already
        if chain is None:
            reasons[noise.name] = found.reason(noise.name)
            continue
        *between, last = chain
        new[last] = found.sample(last)
        dropped.update(between)
        recovered[noise.name] = Drawn(new[last][0].name, undo=found.forms[last].undo)
    kept = [one for node in apart.nodes if node.name not in dropped for one in new.get(node.name, [node])]
    return Lifted(_with_sites(_with_needed(kept, found.algebra.nodes)), recovered, apart.parts, reasons)


def _with_scaled_noise(nodes: Sequence[Node], known: Known) -> tuple[list[Node], dict[str, Drawn]]:
    """``torch.normal(loc, scale)`` with a scale that is 0 here and there has no density: it is noise times the scale.

    The nodes, and what the program's draws are then.
    """
    by_name, drawn_as = {node.name: node for node in nodes}, dict[str, Drawn]()

    def written(node: Node) -> list[Node]:
        if not isinstance(node, Sample) or node.family != "Normal" or node.site is not None or node.transforms:
            return [node]
        loc, scale = node.params["loc"], node.params["scale"]
        if not isinstance(scale, Ref) or not known.has_zeros(by_name[scale.name]):
            return [node]
        typed: dict[str, Any] = {"shape": node.shape, "dtype": node.dtype, "location": node.location}
        noise = Noise(name=f"{node.name}.noise", law="StandardNormal", **typed)
        product = Call(name=f"{node.name}.mul", target="torch.mul", args=(Ref(noise.name), scale), **typed)
        drawn_as[node.name] = Drawn(noise.name, undo=((moved, (loc, scale)),))
        return [noise, product, Call(name=node.name, target="torch.add", args=(Ref(product.name), loc), **typed)]

    return [new for node in nodes for new in written(node)], drawn_as


def _with_standard_laws(nodes: Sequence[Node], known: Known) -> list[Node]:
    """``Normal(0, 1).sample()`` is noise as ``torch.randn()`` is."""
    algebra = Algebra({node.name: node for node in nodes}, known)

    def noise(node: Node) -> Node:
        if not isinstance(node, Sample) or node.site is not None or node.transforms or node.event_dim:
            return node
        params = {key: algebra.number(value) for key, value in node.params.items()}
        law = next((law for law, form in START.items() if (form.family, form.params) == (node.family, params)), None)
        if law is None:
            return node
        return Noise(name=node.name, law=law, shape=node.shape, dtype=node.dtype, location=node.location)

    return [noise(node) for node in nodes]


def _with_sites(nodes: list[Node]) -> list[Node]:
    """A site at the value of a draw is the draw's own; what reads one reads the other."""
    by_name = {node.name: node for node in nodes}
    sites: dict[str, Site] = {}
    same: dict[str, str] = {}
    for node in nodes:
        drawn = by_name.get(node.params["v"].name) if _is_at_value(node) else None
        if isinstance(drawn, Sample) and drawn.site is None and drawn.name not in sites and node.site is not None:
            sites[drawn.name] = replace(node.site, family=drawn.family)
            same[node.name] = drawn.name
    kept = [node for node in nodes if node.name not in same]
    named = [replace(node, site=sites[node.name]) if node.name in sites else node for node in kept]
    return [node.map_names(lambda name: same.get(name, name)) for node in named]


def _is_at_value(node: Node) -> TypeGuard[Sample]:
    return isinstance(node, Sample) and node.family == "Delta" and isinstance(node.params.get("v"), Ref)


def _with_needed(nodes: list[Node], parameters: Mapping[str, Call]) -> list[Node]:
    """Each parameter's call before the first node that reads it."""
    placed, result = set[str](), list[Node]()

    def place(name: str) -> None:
        if name in parameters and name not in placed:
            placed.add(name)
            for inner in parameters[name].inputs:
                place(inner)
            result.append(parameters[name])

    for node in nodes:
        for name in node.inputs:
            place(name)
        result.append(node)
    return result


_CONVOLUTIONS = [f"conv{kind}{dims}d" for kind in ("", "_transpose") for dims in (1, 2, 3)]
_PRODUCTS = ["linear", "matmul", "mm", "mv", "bmm", "addmm", "baddbmm", "bilinear"]
_LAYERS = ["layer_norm", "batch_norm", "group_norm", "instance_norm", "rms_norm", *DROPOUTS]
_OF_NETWORKS = frozenset([*_PRODUCTS, *_CONVOLUTIONS, *_LAYERS])
"""Besides submodules: calls by which a layer reads its input."""


_NAMES = {
    **dict.fromkeys(("add", "sub", "mul", "multiply", "div", "divide", "matmul"), ("input", "other")),
    **dict.fromkeys(("lt", "le", "gt", "ge", "less", "greater"), ("input", "other")),
    **dict.fromkeys(("addcmul", "addcdiv"), ("input", "tensor1", "tensor2")),
    **dict.fromkeys(("addmm", "bmm", "baddbmm"), ("input", "mat1", "mat2")),
    "lerp": ("input", "end", "weight"),
    "pow": ("input", "exponent"),
}
"""Of torch's functions, the arguments that rules take by position."""


def _by_position(call: Call) -> tuple[list[Arg], dict[str, Arg]]:
    """The arguments, those by name too, as far as the rules know them by their places."""
    args, kwargs = list(call.args), dict(call.kwargs)
    for name in _NAMES.get(short_name(call.target_name), ())[len(args) :]:
        if name not in kwargs:
            break
        args.append(kwargs.pop(name))
    return args, kwargs


def _steps(form: Form, dtype: torch.dtype | None, node: Node) -> Iterator[Call]:
    """From the family's draw to the node's value: calls that lack their names, and what they are called of."""
    shape = (node.shape or ())[:-1] if form.is_column else node.shape
    low, high = form.either

    def step(word: str, arg: Arg) -> Call:
        return Call(
            name="", target=f"torch.Tensor.{word}", args=(arg,), shape=shape, dtype=dtype, location=node.location
        )

    if high - low != 1:
        yield step("mul", high - low)
    if low:
        yield step("add", low)
    if dtype != node.dtype:
        yield replace(step("to", node.dtype), dtype=node.dtype)
    if form.is_column:
        yield replace(step("unsqueeze", -1), shape=node.shape, dtype=node.dtype)


class _Forms:
    """The form of every value that has one, and what reads it."""

    def __init__(self, nodes: Sequence[Node], weak: Mapping[str, str], around: Mapping[str, str], known: Known) -> None:
        self._by_name = {node.name: node for node in nodes}
        self._weak = weak
        self._around = around
        self._order = {node.name: place for place, node in enumerate(nodes)}
        self.algebra = Algebra(self._by_name, known)
        self.forms: dict[str, Form] = {}
        self._made_of: dict[str, str] = {}
        self._readers: dict[str, list[str]] = {}
        self._noises: dict[str, frozenset[str]] = {}
        self._own: dict[str, str] = {}
        self._sites = {node.params["v"].name for node in nodes if _is_at_value(node)}
        for node in nodes:
            self._read(node)

    def _read(self, node: Node) -> None:
        reads = [] if is_size(node) else refs_in(node.arguments)
        for name in reads:
            self._readers.setdefault(name, []).append(node.name)
        self._noises[node.name] = frozenset().union(*(self._noises[name] for name in reads))
        if isinstance(node, Sample) and node.site is None and not node.transforms and not node.event_dim:
            params = {key: self.algebra.number(value) for key, value in node.params.items()}
            if (form := drawn(node.family, params)) is not None:
                self.forms[node.name] = replace(form, nothing=nothing(node.dtype))
                self._own[node.name] = node.name
                self._noises[node.name] = frozenset([node.name])
        elif isinstance(node, Noise):
            self._noises[node.name] = frozenset([node.name])
            if node.dtype is None or not node.dtype.is_floating_point:
                return
            self.forms[node.name] = replace(START[node.law], nothing=nothing(node.dtype))
            self._own[node.name] = node.name
        elif isinstance(node, Call):
            for source in self._sources(reads):
                if (form := self._made(node, source)) is not None:
                    self.forms[node.name], self._made_of[node.name] = form, source
                    self._own[node.name] = self._own[source]
                    return

    def _sources(self, reads: list[str]) -> list[str]:
        """The arguments that have a form, where no other depends on the same noise; what was drawn last goes first."""
        found: list[str] = []
        for name in dict.fromkeys(reads):
            others = list(reads)
            others.remove(name)
            if name in self.forms and not any(self._own[name] in self._noises[other] for other in others):
                found.append(name)
        return sorted(found, key=lambda name: self._order[self._own[name]], reverse=True)

    def _made(self, node: Call, source: str) -> Form | None:
        word, (args, kwargs) = short_name(node.target_name), _by_position(node)
        if Ref(source) not in args:
            return None
        read = self._by_name[source]
        place, before = args.index(Ref(source)), read.shape or ()
        call = Operation(word, args, kwargs, place, before, node.shape, read.dtype, node.dtype)
        return made(self.forms[source], call, self.algebra)

    def is_noise(self, node: Node) -> bool:
        """Is it drawn from a fixed law?"""
        if isinstance(node, Sample) and node.site is None and node.family not in DISCRETE:
            return all(map(self.algebra.is_fixed, leaves(dict(node.params))))
        return isinstance(node, Noise)

    def chain(self, noise: str, variables: Mapping[str, str]) -> list[str] | None:
        """From the noise to the value that is the variable; None where there is none.

        It is the first that the program has a name for and that has a law of its own, with a mean or a threshold; else
        the last that has a name.
        """
        names = [noise]
        if noise not in self.forms:
            return None
        while (reader := self._only_reader(names[-1])) is not None and not self._ends(names[-1], reader, variables):
            names.append(reader)
        laws = [name for name in names[1:] if self.forms[name].is_law]
        named = [name for name in laws if self._has_name(name, variables)]
        named = named or [name for name in laws if name in self._weak]
        if not named and self._around.get(noise):
            named = [name for name in laws if self._is_label(name)]
        if not named:
            is_named = noise in variables or noise in self._sites or noise in self._weak
            return [noise] if is_named and noise in self._readers and self.is_variable_by_itself(noise) else None
        if self._is_like_noise(named[-1]) and not self._is_read_by(named[-1], lambda word: word not in ARITHMETIC):
            return None
        return names[: names.index(named[-1]) + 1]

    def _ends(self, name: str, reader: str, variables: Mapping[str, str]) -> bool:
        """Is this the variable, of which its reader makes another value?

        Where the names say nothing, it is the value around a mean, unless it is the score of a label.
        """
        called = variables if name in variables else self._weak
        if name not in called or not self.forms[name].is_law or self._is_fixed(name):
            return False
        own, other = self.forms[name], self.forms[reader]
        if other.family == f"{own.family}StraightThrough":  # of which this is the gradient
            return False
        is_around_mean = "loc" in own.params and self._has_place(name)
        if name not in variables and (not is_around_mean or self._leads_to_label(reader)):
            return False
        is_sum = (other.family, other.transforms) == (own.family, own.transforms)
        return not is_sum or (self._has_place(name) and self._next_name(reader, called) != called[name])

    def _is_label(self, name: str) -> bool:
        """Is it one, or a coin, of a law that the program computes?"""
        form = self.forms[name]
        return form.family in DISCRETE and any(isinstance(value, Ref) for value in form.params.values())

    def _leads_to_label(self, name: str | None) -> bool:
        """Becomes it, or a relaxed one, by nothing else?"""
        while name is not None:
            if self.forms[name].family in DISCRETE or self.forms[name].family.startswith("Relaxed"):
                return True
            name = self._only_reader(name)
        return False

    def _is_fixed(self, name: str) -> bool:
        """Has it a law of numbers, as noise has? A threshold of noise makes a law of its own."""
        form = self.forms[name]
        return form.family not in DISCRETE and not any(isinstance(value, Ref) for value in form.params.values())

    def _is_like_noise(self, name: str) -> bool:
        """Is it of a fixed law of which programs make others?"""
        family = self.forms[name].family
        return self._is_fixed(name) and (family == "Uniform" or (family in NOISES and not self._has_place(name)))

    def _has_place(self, name: str) -> bool:
        """Is it around a mean, or from a bound on, that the program computes?"""
        params = self.forms[name].params
        place = params.get("loc", params.get("low", 0 if "rate" in params else True))
        return place is not None and not (isinstance(place, int | float) and place == 0)

    def _next_name(self, name: str | None, called: Mapping[str, str]) -> str:
        """What the next value is called that has a name, from this one on."""
        while name is not None and name not in called:
            name = self._only_reader(name)
        return "" if name is None else called[name]

    def _has_name(self, name: str, variables: Mapping[str, str]) -> bool:
        """Itself, or what it becomes in another shape, or when it is cut off from its gradient."""
        form = self.forms.get(name)
        if name in variables or (name in self._sites and (form is None or form.either == (0, 1))):
            return True
        readers = [self._by_name[reader] for reader in self._readers.get(name, [])]
        shown = [node for node in readers if isinstance(node, Call) and shows_all(node)]
        return len(readers) == 1 and len(shown) == 1 and self._has_name(shown[0].name, variables)

    def reason(self, noise: str) -> str:
        """Why there is none."""
        name = noise
        while (reader := self._only_reader(name)) is not None:
            name = reader
        times = self._readers.get(name, [])
        readers = [self._by_name[reader] for reader in dict.fromkeys(times)]
        what = "it" if name == noise else "what is made of it"
        if len(times) > 1:
            return f"{len(readers)} calls read {what}" if len(readers) > 1 else f"{what} is read {len(times)} times"
        if readers and isinstance(readers[0], Call) and readers[0].name in self.forms:
            return f"{what} has no name in the program"
        if readers and isinstance(readers[0], Call) and name in self.forms and name != noise:
            law = f", a {self.forms[name].family}," if self.forms[name].is_law else ""
            unnamed = f"{what}{law} has no name in the program"
            called = readers[0].target_name
            lost = f"{unnamed}, and what {called} makes of that has no law that is known"
            return lost if short_name(called) in RULES else unnamed
        broadcasts = readers and readers[0].shape != self._by_name[name].shape
        if broadcasts and isinstance(readers[0], Call) and short_name(readers[0].target_name) in ARITHMETIC:
            return f"of what {readers[0].target_name} makes of it, several elements share one draw"
        if readers and isinstance(readers[0], Call) and self._may_be_0(readers[0], name):
            return f"{what} is multiplied by what may be 0"
        if readers and isinstance(readers[0], Call):
            return f"what {readers[0].target_name} makes of it, with these arguments, has no law that is known"
        return f"{what} has no name in the program"

    def _may_be_0(self, product: Call, noise: str) -> bool:
        factors = [arg for arg in product.args if isinstance(arg, Ref) and arg.name != noise]
        is_product = short_name(product.target_name) in ("mul", "multiply", "addcmul")
        return is_product and not all(map(self.algebra.is_scale, factors))

    def _only_reader(self, name: str) -> str | None:
        readers = self._readers.get(name, [])
        return readers[0] if len(readers) == 1 and self._made_of.get(readers[0]) == name else None

    def is_variable_by_itself(self, name: str) -> bool:
        """Is it, or are parts of it, read as the input of a network is?"""
        return self._is_read_by(name, lambda word: not word or word in _OF_NETWORKS)

    def _is_read_by(self, name: str, known: Callable[[str], bool]) -> bool:
        """Are all calls that read it, or parts of it, of a known word? That of a submodule is ""."""
        for reader in (self._by_name[reader] for reader in self._readers.get(name, [])):
            if not isinstance(reader, Call):
                continue
            word = short_name(reader.target_name)
            passed_on = reads_same(reader, name) or word in TAKING_APART or word in ("cat", "stack", "concat")
            if not (self._is_read_by(reader.name, known) if passed_on else known(word)):
                return False
        return True

    def sample(self, name: str) -> list[Node]:
        """The random variable in the place of a node, and a call after it where the node has another dtype."""
        node, form = self._by_name[name], self.forms[name]
        params = dict(form.params)
        if form.family == "MultivariateNormal" and params["loc"] is None:
            params["loc"] = self.algebra.zeros(params["scale_tril"])
        dtype = self._dtype(form, node)
        steps = list(_steps(form, dtype, node))
        drawn = Sample(
            name=f"{name}.draw" if steps else name,
            family=form.family,
            params=params,
            event_dim=form.event_dim,
            transforms=form.transforms,
            shape=(node.shape or ())[:-1] if form.is_column else node.shape,
            dtype=dtype,
            location=node.location,
            options={} if self._is_comparable(form) else {"divergence": "wasserstein2"},
        )
        result: list[Node] = [drawn]
        for number, step in enumerate(steps, 1):
            called = name if number == len(steps) else f"{name}.draw.{number}"
            result.append(replace(step, name=called, args=(Ref(result[-1].name), *step.args)))
        return result

    def _is_comparable(self, form: Form) -> bool:
        """Has it a density wherever another one of its family has? Not a Uniform with bounds that are computed."""
        return form.family != "Uniform" or all(map(self.algebra.is_fixed, form.params.values()))

    def _dtype(self, form: Form, node: Node) -> torch.dtype | None:
        """In which the family is drawn."""
        if form.family == "Categorical":
            return torch.int64
        if form.family not in ("Bernoulli", "OneHotCategorical"):
            return node.dtype
        tensors = [self.algebra.dtype(leaf.name) for leaf in leaves(dict(form.params)) if isinstance(leaf, Ref)]
        return tensors[0] if tensors else torch.get_default_dtype()
