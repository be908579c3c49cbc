"""Source text of a random Pyro program: sites in chains, trees and diamonds, in plates up to two deep.

A value belongs to a *scope*: the plates whose dims its shape has. It may be read wherever these plates are, as values
of fewer plates broadcast with those of more. Besides, it has an event dim of 3 or none. What a law reads is bounded,
so that no value runs away along a chain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from textwrap import indent
from typing import TypeVar

from tests.random_programs.frames import FRAMES, GLOBAL, LAYERS, LAYOUTS, PROLOGUES, Scope
from tests.random_programs.laws import COMPOSED, FAMILIES, USUAL, LawText
from tests.random_programs.program import RandomProgram, either

__all__ = ["Generator", "random_program"]

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Value:
    """A variable of the program.

    Args:
        text: how it is read.
        scope: the plates whose dims it has.
        event: has it an event dim?
        labels: how many values it has, where it may be an index.
        whole: are its values whole numbers?
    """

    text: str
    scope: Scope
    event: bool
    labels: int = 0
    whole: bool = False


class Generator:
    """Writes one program."""

    def __init__(self, random: Random, sites: int = 7) -> None:
        self._random = random
        self._sites = random.randint(1, sites)
        self._head: list[str] = []
        self._body: list[str] = []
        self._values: list[Value] = []
        self._names: list[str] = []
        self._observed = 0
        self._has_data = False
        self._exact = True
        self._sampled = True
        self._count = 0
        self._layout = self._weighted(LAYOUTS)

    def program(self) -> RandomProgram:
        """The program."""
        frame, self._has_data = self._weighted([(weight, (text, data)) for weight, data, text in FRAMES])
        self._begin()
        self._supervised = self._flag(0.85)
        statements = (
            (12, self._site),
            (2, self._module),
            (2, self._deterministic),
            (3, self._written),
            (2, self._reshaped),
            (1, self._loop),
            (1, self._sequential),
            (1, self._bayesian),
            (2, self._reduced),
            (2, self._looked_up),
            (1, self._sized),
            (1, self._recurrent),
            (1, self._flow),
        )
        while len(self._names) < self._sites:
            self._weighted(statements)()
        targets = None
        plain = [name for name in self._names if "{" not in name]
        if not self._observed and plain and self._flag(0.3):
            targets = (self._random.choice(plain),)
        return RandomProgram(
            head=tuple(self._head),
            frame=frame,
            body=tuple(self._body),
            exact_relations=self._exact,
            targets=targets,
            sampled=self._sampled,
            method=self._weighted([(4, "surrogate"), (1, "local")]),
            reduction=self._weighted([(4, "sum"), (1, "mean")]),
        )

    def _begin(self) -> None:
        if prologue := self._weighted(PROLOGUES[::3] if self._has_data else PROLOGUES):
            self._body.append(prologue)
        rows = self._layout.per_row("x", 1)
        data = frozenset({"data"})
        self._body.append(f"rows = {rows}")
        self._body.append(f"seen = {self._layout.per_row('m', 0)}")
        self._body += [f"{name} = {made}" for name, (_, _, made) in self._layout.plates.items() if made]
        self._values += [Value("rows", data, True), Value("rows.mean(-1)", data, False)]
        for _ in range(self._random.randint(0, 2)):
            self._values.append(self._parameter())

    # choices

    def _weighted(self, choices: Sequence[tuple[int, Choice]]) -> Choice:
        weights = [weight for weight, _ in choices]
        return self._random.choices([choice for _, choice in choices], weights)[0]

    def _flag(self, probability: float) -> bool:
        return self._random.random() < probability

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"

    def _number(self) -> str:
        pairs = [("0.3", "0.4"), ("-0.7", "-0.6"), ("1.0", "1.0"), ("1.5", "1.2"), ("0.0", "0.1")]
        return either(*self._random.choice(pairs))

    def _scope(self) -> Scope:
        """Mostly with the batch."""
        scopes = self._layout.scopes
        with_data = [scope for scope in scopes if "data" in scope]
        return self._random.choice(with_data if self._flag(0.75) else scopes)

    # values

    def _parameter(self) -> Value:
        """Tensors that the program learns, in the ways in which people keep them."""
        name = self._fresh("w")
        event = self._flag(0.5)
        start = "torch.linspace(-0.5, <|0.7|0.6|>, 3)" if event else "torch.tensor(<|0.4|0.5|>)"
        match self._random.randrange(5):
            case 0:
                self._head.append(f"{name} = {start}.requires_grad_()")
            case 1:
                self._head.append(f"{name} = nn.Parameter({start})")
            case 2:
                self._body.append(f'{name} = pyro.param("{name}", {start})')
            case 3:
                self._body.append(f'{name} = pyro.param("{name}", {start}.exp(), constraint=constraints.positive)')
            case _:
                bound = self._random.choice(["interval(-1.0, 2.0)", "greater_than(-2.0)", "less_than(3.0)"])
                self._body.append(f'{name} = pyro.param("{name}", lambda: {start}, constraint=constraints.{bound})')
        return Value(name, GLOBAL, event)

    def _known(self, scope: Scope, event: bool | None = None) -> list[Value]:
        return [v for v in self._values if v.scope <= scope and (event is None or v.event is event)]

    def _real(self, scope: Scope, event: bool) -> str:
        """A tensor that may be read in these plates, with an event dim (of 3 or 1) or without, of moderate size."""
        known = self._known(scope)
        if not known or self._flag(0.06):
            return f"torch.tensor({self._number()})" if not event else f"torch.full((3,), {self._number()})"
        value = self._shaped(self._random.choice(known[-5:] if self._flag(0.6) else known), event)
        match self._random.randrange(8):
            case 0:
                return f"torch.tanh({value})"
            case 1:
                return f"torch.tanh({value} + {self._real(scope, event)})"
            case 2:
                return f"torch.tanh({value}) * {self._real(scope, event)}"
            case 3:
                condition = self._shaped(self._random.choice(known), event)
                return f"torch.where({condition} > 0, torch.sin({value}), {self._number()})"
            case 4:
                return f"({value}).clamp(-1.0, 1.0)"
            case 5:
                return f"torch.sin({value} - {self._number()})"
            case 6:
                return f"({value}).sigmoid().sub(0.5)"
            case _:
                return f"torch.tanh(0.5 * {value})"

    def _shaped(self, value: Value, event: bool) -> str:
        text = f"{value.text}.to(x.dtype)" if value.whole or value.labels else value.text
        if value.event and not event:
            return self._random.choice([f"{text}.sum(-1)", f"{text}[..., 1]", f"{text}.mean(dim=-1)"])
        return f"{text}.unsqueeze(-1)" if event and not value.event else text

    def _number_or_tensor(self, scope: Scope) -> str:
        return self._number() if self._flag(0.08) else self._real(scope, False)

    def _positive(self, scope: Scope, event: bool) -> str:
        text = f"torch.tanh({self._three(scope) if event else self._real(scope, False)})"
        return self._random.choice(["(0.5 + torch.exp({}))", "(F.softplus({}) + 0.2)"]).format(text)

    def _three(self, scope: Scope) -> str:
        """An expression that has an event dim of 3 whatever it reads."""
        return f"({self._real(scope, True)} + torch.tensor([0.1, -0.2, {self._number()}]))"

    def _vector(self, scope: Scope) -> Value:
        """A value with an event dim of 3: one that is there, or a new one."""
        if (known := self._known(scope, True)) and self._flag(0.9):
            return self._random.choice(known)
        return Value(self._three(scope), scope, True)

    # statements

    def _add(self, line: str, scope: Scope) -> None:
        """A statement inside the plates."""
        if not scope or not self._layout.declared:
            self._body.append(line)
            return
        names = sorted(scope, key=lambda name: self._layout.plates[name][0])
        if self._flag(0.1):
            names.reverse()
        if self._flag(0.2):
            for name in reversed(names):
                line = f"with {name}:\n{indent(line, '    ')}"
            self._body.append(line)
        else:
            self._body.append(f"with {', '.join(names)}:\n{indent(line, '    ')}")

    def _inside(self, scope: Scope, text: str) -> str:
        """``text`` in its plates."""
        if not scope or not self._layout.declared:
            return text
        return (
            f"with {', '.join(sorted(scope, key=lambda name: self._layout.plates[name][0]))}:\n{indent(text, '    ')}"
        )

    def _module(self) -> None:
        """A network called on an event; a second time, perhaps."""
        value, name = self._vector(self._scope()), self._fresh("h")
        nets = [line.partition(" ")[0] for line in self._head if line.startswith("net")]
        if nets and self._flag(0.4):
            net = self._random.choice(nets)
        else:
            net = self._fresh("net")
            linear = [line.partition(" ")[0] for line in self._head if line.endswith("= nn.Linear(3, 3)")]
            tied = bool(linear) and self._flag(0.8)
            self._head.append(f"{net} = {'nn.Linear(3, 3)' if tied else self._random.choice(LAYERS)}")
            if tied:
                self._head.append(f"{net}.weight = {linear[0]}.weight")
            elif self._flag(0.2):
                self._body.append(f'pyro.module("{net}", {net})')
        self._body.append(f"{name} = {net}({self._shaped(value, True)})")
        self._values.append(Value(name, value.scope, True))

    def _deterministic(self) -> None:
        name, scope, event = self._fresh("d"), self._scope(), self._flag(0.5)
        text = self._three(scope) if event else f"{self._real(scope, False)} * 1.0"
        self._body.append(f'{name} = pyro.deterministic("{name}", {text})')
        self._values.append(Value(name, scope, event))
        self._exact = False  # Pyro leaves deterministic sites out

    def _written(self) -> None:
        """Writes in place, through views also."""
        value, name, view = self._vector(self._scope()), self._fresh("t"), self._fresh("view")
        text, scope = self._shaped(value, True), value.scope
        number = self._number()
        copied = f"{name} = {text} + torch.zeros(({self._layout.shape(scope, (1,))},))\n"
        changes = [
            f"{copied}{name}[..., 0] = {self._real(scope, False)}",
            f"{name} = {text} * 1.0\n{name} += {self._number()}\n{name}.mul_(0.5)",
            f"{name} = torch.zeros_like({text})\n{name}[..., 1:] = {text}[..., :2]",
            f"{name} = {text} * 1.0\n{view} = {name}[..., 0]\n{view}.mul_(0.5)",
            f"{copied}{view} = {name}.unsqueeze(-1).squeeze(-1)\n{view}.add_({number})\n{name} = torch.sin({name})",
            f"{copied}{view} = {name}.view(-1, 3)\n{view}[:, 1] += {self._number()}",
            f"{copied}{name}[{name} > 0] = {self._number()}",
            f"{name} = {text}.clone()\n{name}.masked_fill_({text} > 0.5, {self._number()})",
            f"{copied}{name}.transpose(-1, 0)[0] *= 0.5",
            f"{name} = torch.empty_like({text})\n{name}.copy_({text}).tanh_()",
            f"{name} = {text}.new_zeros({text}.shape)\n{name}[..., 0], {name}[..., 2] = {text}[..., 1], {number}",
            f"{copied}first, {view} = {name}[..., :1], {name}[..., 1:]\n{view}.sub_(first)\nfirst.zero_()",
        ]
        self._body.append(self._random.choice(changes))
        self._values.append(Value(name, scope, True))
        self._exact = False

    def _reshaped(self) -> None:
        """Shapes that are computed."""
        value, name = self._vector(self._scope()), self._fresh("s")
        text = self._shaped(value, True)
        changes = [
            f"{name} = {text} + torch.arange(3).to(x.dtype) / (len(x) * 3)",
            f"{name} = {text}.reshape(-1, 3).t().reshape(3, -1).t().reshape({text}.shape)",
            f"{name} = torch.cat([{text}[..., 2:], {text}[..., :2]], -1)",
            f"{name} = {text}.flip(-1) / x.shape[0]",
            f"{name} = torch.stack({text}.unbind(-1)[::-1], -1)",
            f"{name} = {text}.expand(2, *{text}.shape).mean(0)",
            f"{name} = ({text}.unsqueeze(-1) * torch.eye(3)).sum(-2)",
            f"{name} = {text} @ torch.tensor([[0.5, 0.1, {self._number()}], [0.2, 0.0, 0.3], [0.0, 1.0, 0.4]])",
            f"{name} = torch.einsum('...i,ij->...j', {text}, torch.eye(3))",
            f"{name} = {text} + x.new_ones(2 * len(x) + 1).cumsum(0)[-1:] * 0.01",
            f"a, b = {text}.split([1, 2], dim=-1)\n{name} = torch.cat((b, a), dim=-1)",
        ]
        self._body.append(self._random.choice(changes))
        self._values.append(Value(name, value.scope, True))

    def _reduced(self) -> None:
        """A value of the whole batch, or of the plates outside."""
        name = self._fresh("r")
        known = [v for v in self._values if v.scope]
        value = self._random.choice(known)
        text = self._shaped(value, value.event)
        if value.event:
            self._body.append(f"{name} = {text}.reshape(-1, 3).mean(0)")
        else:
            ways = ["mean()", "max()", "sum().sin()", "flatten()[0]", "pow(2).mean().sqrt()"]
            self._body.append(f"{name} = {text}.{self._random.choice(ways)}")
        self._values.append(Value(name, GLOBAL, value.event))

    def _looked_up(self) -> None:
        """A row of a table, at an index that was drawn."""
        known = [v for v in self._values if v.labels]
        if not known:
            return
        value, name, event = self._random.choice(known), self._fresh("e"), self._flag(0.5)
        table, way = self._fresh("table"), self._random.randrange(3)
        rows = (
            "torch.linspace(-1.0, <|1.0|0.9|>, 9).reshape(3, 3)" if event else "torch.tensor([-0.5, 0.1, <|0.9|0.8|>])"
        )
        if way == 0:
            event = True
            self._head.append(f"{table} = nn.Embedding({value.labels}, 3)")
            self._body.append(f"{name} = {table}({value.text})")
        elif way == 1:
            self._body.append(f"{name} = {rows}[{value.text}]")
        else:
            self._body.append(f'{name} = pyro.param("{table}", {rows})[{value.text}]')
        self._values.append(Value(name, value.scope, event))

    def _sized(self) -> None:
        """An event that is as long as the batch, or twice so."""
        name = self._sample_name("z", GLOBAL)
        variable = self._fresh("b")
        if self._layout.data_dim != -1 or self._flag(0.5):
            law = f"dist.Normal(torch.zeros(2 * len(x)), {self._number_above()}).to_event(1)"
            self._body.append(f'{variable} = pyro.sample("{name}", {law})[len(x) :].mean()')
            self._values.append(Value(variable, GLOBAL, False))
        else:
            law = f"dist.Normal({self._real(GLOBAL, False)}, 1.0).expand([len(x)]).to_event(1)"
            self._body.append(f'{variable} = pyro.sample("{name}", {law})')
            self._values.append(Value(variable, frozenset({"data"}), False))
        self._names.append(name)

    def _number_above(self) -> str:
        return either(*self._random.choice([("1.0", "1.0"), ("0.8", "1.1"), ("1.3", "0.9")]))

    def _loop(self) -> None:
        """A chain of sites, each of which reads the one before."""
        scope, state, mean = self._scope(), self._fresh("state"), self._fresh("mean")
        start = self._three(scope)
        stem = self._fresh("z")
        steps = self._random.choice(["range(2)", "range(3)", "pyro.markov(range(3))"])
        law = f"dist.Normal({mean}, {self._positive(scope, True)}).to_event(1)"
        update = self._random.choice(
            [f"torch.tanh({state})", f"torch.tanh({state} + {self._real(scope, True)})", f"{state} * 0.5 + t / 3"]
        )
        inner = f'{mean} = {update}\n{state} = pyro.sample(f"{stem}_{{t}}", {law})'
        inner = self._inside(scope, inner)
        self._body.append(f"{state} = {start}\nfor t in {steps}:\n{indent(inner, '    ')}")
        self._values.append(Value(state, scope, True))
        self._names.append(f"{stem}_{{t}}")

    def _sequential(self) -> None:
        """A plate that is a loop."""
        scope, total, stem = self._scope(), self._fresh("total"), self._fresh("q")
        law = self._law(scope)
        while law[0].event or law[0].read != "{}":
            law = self._law(scope)
        drawn = f'{total} = {total} + torch.tanh(pyro.sample(f"{stem}_{{i}}", {law[1]}).to(x.dtype)) * (i + 1) / 3'
        drawn = self._inside(scope, drawn)
        loop = f'for i in pyro.plate("{stem}", 2):\n{indent(drawn, "    ")}'
        self._body.append(f"{total} = x.new_zeros(())\n{loop}")
        self._values.append(Value(total, scope, False))
        self._names.append(f"{stem}_{{i}}")

    def _recurrent(self) -> None:
        """A cell that keeps a hidden state along sites."""
        scope, cell, hidden, z = self._scope(), self._fresh("cell"), self._fresh("hidden"), self._fresh("z")
        self._head.append(f"{cell} = {self._random.choice(['nn.GRUCell(3, 3)', 'nn.RNNCell(3, 3)'])}")
        start, scale = self._three(scope), self._positive(scope, True)
        shape = self._layout.shape(scope, (3,))
        drawn = f'{z} = pyro.sample(f"{z}_{{t}}", dist.Normal({hidden}, {scale}).to_event(1))'
        drawn = self._inside(scope, drawn)
        flat = f"{cell}({z}.reshape(-1, 3), {hidden}.reshape(-1, 3)).reshape({shape})"
        self._body.append(
            f"{hidden} = {start}.expand({shape})\nfor t in range(2):\n{indent(drawn, '    ')}\n"
            f"    {hidden} = {flat.replace(z + '.', z + '.expand(' + shape + ').')}"
        )
        self._values.append(Value(hidden, scope, True))
        self._names.append(f"{z}_{{t}}")

    def _flow(self) -> None:
        """A site behind a transform that is learnt."""
        scope, flow, variable = self._scope(), self._fresh("flow"), self._fresh("z")
        made = self._random.choice(
            ["affine_autoregressive(3, hidden_dims=[4])", "affine_coupling(3, hidden_dims=[4])", "spline(3)"]
        )
        self._head.append(f"{flow} = transforms.{made}")
        base = f"dist.Normal({self._three(scope)}, {self._positive(scope, True)}).to_event(1)"
        law = f"dist.TransformedDistribution({base}, [{flow}])"
        self._add(f'{variable} = pyro.sample("{variable}", {law})', scope)
        self._values.append(Value(variable, scope, True))
        self._names.append(variable)

    def _bayesian(self) -> None:
        """A module of which some weights are drawn."""
        cls, made, name = self._fresh("Layer"), self._fresh("layer"), self._fresh("h")
        value = self._vector(self._scope())
        positive = "0.5 * torch.ones(3)"
        self._head.append(
            f"class {cls}(PyroModule):\n"
            '    def __init__(self, name=""):\n'
            "        super().__init__(name)\n"
            f"        self.weight = PyroSample(dist.Normal(torch.zeros(3), {self._number_above()}).to_event(1))\n"
            f"        self.scale = PyroParam({positive}, constraint=constraints.positive)\n"
            "        self.shift = nn.Parameter(torch.tensor(<|0.2|0.1|>))\n\n"
            "    def forward(self, v):\n"
            "        return torch.tanh(v * self.weight) * self.scale + self.shift\n\n\n"
            f'{made} = {cls}("{made}")'
        )
        self._body.append(f"{name} = {made}({self._shaped(value, True)})")
        self._values.append(Value(name, value.scope, True))
        self._names.append(f"{made}.weight")

    # sites

    def _sample_name(self, stem: str, scope: Scope) -> str:
        name = self._fresh(stem)
        return self._weighted([(20, name), (1, f"group/{name}"), (1, f"{name} of it"), (1, f"a.{name}")])

    def _site(self) -> None:
        variable, scope = self._fresh("z"), self._scope()
        law, text = self._law(scope)
        name = self._weighted([(20, variable), (1, f"group/{variable}"), (1, f"the {variable}"), (1, f"a.{variable}")])
        last = len(self._names) == self._sites - 1 and not self._observed and self._supervised
        observed = self._obs(law, scope) if last or (self._supervised and self._flag(0.25)) else ""
        call = f'{variable} = pyro.sample("{name}", {text}{observed}{self._infer()})'
        for context in self._contexts(scope):
            call = f"with {context}:\n{indent(call, '    ')}"
        self._add(call, scope)
        self._values.append(Value(law.read.format(variable), scope, law.event, law.labels, law.whole))
        self._names.append(name)

    def _obs(self, law: LawText, scope: Scope) -> str:
        """Data, of any values: what counts is their shape."""
        if not law.observed or not self._layout.declared:
            return ""
        self._observed += 1
        if self._has_data and law.shape == (3,) and scope == {"data"}:
            self._has_data = False
            data = self._layout.per_row("y", 1)
            return f", obs={data}" if data == "y" else f", obs=None if y is None else {data}"
        dtype = ", dtype=torch.long" if law.labels else ""
        return f", obs=torch.zeros(({self._layout.shape(scope, law.shape)}{',' if scope or law.shape else ''}){dtype})"

    def _infer(self) -> str:
        return ', infer={"enumerate": "parallel"}' if self._flag(0.03) else ""

    def _contexts(self, scope: Scope) -> list[str]:
        """Handlers around a site, from the inside."""
        found = list[str]()
        while self._flag(0.15):
            contexts = [
                "poutine.scale(scale=0.5)",
                f"poutine.scale(scale=torch.tensor({either('1.5', '1.5')}))",
                f"poutine.mask(mask={self._batch_mask(scope)})",
                "poutine.mask(mask=False)" if self._flag(0.3) else "poutine.mask(mask=True)",
            ]
            found.append(self._random.choice(contexts))
        return found

    def _batch_mask(self, scope: Scope) -> str:
        if self._flag(0.1):
            self._exact = False  # Pyro leaves out what decides a handler's mask
            return f"({self._real(scope, False)} > 0)"
        return "seen" if "data" in scope else f"torch.tensor({self._flag(0.7)})"

    def _event_mask(self, scope: Scope) -> str:
        return "(rows > 0)" if "data" in scope else "torch.tensor([True, False, True])"

    # laws

    def _law(self, scope: Scope) -> tuple[LawText, str]:
        while True:
            laws = self._weighted([(5, USUAL), (4, FAMILIES), (2, COMPOSED)])
            law = self._random.choice(laws)
            if not (law.alone and scope):
                break
        self._sampled = self._sampled and law.sampled
        self._exact = self._exact and law.inspected
        return law, law.text.format_map(_Holes(self._holes(scope)))

    def _holes(self, scope: Scope) -> dict[str, Callable[[], str]]:
        return {
            "r": lambda: self._number_or_tensor(scope),
            "p": lambda: self._positive(scope, False),
            "u": lambda: f"torch.sigmoid({self._real(scope, False)})",
            "v": lambda: self._three(scope),
            "pv": lambda: self._positive(scope, True),
            "pair": lambda: f"({self._three(scope)}.unsqueeze(-2) + torch.tensor([[{self._number()}], [1.1]]))",
            "fv": lambda: f"({self._three(scope)} + torch.zeros(({self._layout.shape(scope, (1,))},)))",
            "t": lambda: self._real(scope, False),
            "two": lambda: f"{self._three(scope)}[..., :2]",
            "tril": lambda: f"({self._diagonal(scope)} + {self._number()} * torch.ones(3, 3).tril(-1))",
            "cov": lambda: f"({self._diagonal(scope)} + 0.1)",
            "event": lambda: self._event_mask(scope),
            "batch": lambda: self._batch_mask(scope),
            "c": self._number,
            "cp": self._number_above,
            "cl": lambda: either("-0.6", "-0.8"),
            "ch": lambda: either("1.4", "1.7"),
            "cs": lambda: either("1.5", "1.6"),
            "row": lambda: f"[{self._number()}]",
            "one": lambda: f"[{self._number()}]",
            "row2": lambda: f"[{self._number()}, 0.5]",
            "zero": lambda: "torch.zeros(())",
            "state": lambda: f"dist.MultivariateNormal(torch.zeros(2), {self._number_above()} * torch.eye(2))",
            "mixed": lambda: f"torch.tensor([0.2, {self._number()}])",
            "gamma": lambda: f"dist.Gamma(4.0, {self._number_above()})",
            "matrix": lambda: f"torch.tensor([[0.7, 0.1], [{self._number()}, 0.5]])",
            "three_states": lambda: f"dist.Normal(torch.zeros(3, 2), {self._number_above()}).to_event(1)",
            "ones": lambda: f"dist.Normal(torch.zeros(2, 3, 1), {self._number_above()}).to_event(1)",
            "four": lambda: f"dist.MultivariateNormal(torch.zeros(4), {self._number_above()} * torch.eye(4))",
            "three_fours": lambda: f"dist.MultivariateNormal(torch.zeros(3, 4), {self._number_above()} * torch.eye(4))",
        }

    def _diagonal(self, scope: Scope) -> str:
        return f"torch.diag_embed({self._positive(scope, True)})"


class _Holes(dict[str, Callable[[], str]]):
    """Fills each hole anew."""

    def __getitem__(self, name: str) -> str:  # type: ignore[override]
        return super().__getitem__(name)()


def random_program(random: Random, sites: int = 7) -> RandomProgram:
    """One program; the same of the same ``random``."""
    return Generator(random, sites).program()
