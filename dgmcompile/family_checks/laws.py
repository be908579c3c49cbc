"""One distribution in one dtype, as the compiler draws from it, and what is checked of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import constraints

from dgmcompile.codegen import compile_graph
from dgmcompile.distill.divergences import LOG_PROBS
from dgmcompile.family_checks.statistics import (
    Found,
    chi_square,
    chi_square_of,
    difference_error,
    kolmogorov_smirnov,
    largest,
    relative_error,
)
from dgmcompile.frontends.distributions import event_dim_of
from dgmcompile.frontends.trace import trace
from dgmcompile.ir.graph import Formula
from dgmcompile.passes import lower
from dgmcompile.reparam import NoiseTransform
from dgmcompile.reparam.registry import converted_with

Values = dict[str, Any]

OF_DERIVATIVES = ("gradient", "double backward")
"""What a biased gradient cannot pass."""

CHUNKS = 50
SCORE_LIMIT = 6.0
"""Standard errors; Student's t of CHUNKS - 1 degrees of freedom is beyond them less often than FALSE_ALARM."""


@dataclass(frozen=True)
class Oracle:
    cdf: Callable[..., Any] | None
    log_prob: Callable[..., Tensor] | None


@dataclass(frozen=True)
class FamilyCheck:
    """One check of one setting: ``statistic`` may be as large as ``limit``."""

    name: str
    setting: int
    dtype: str
    statistic: float
    limit: float
    note: str = ""

    @property
    def ok(self) -> bool:
        return self.statistic <= self.limit

    @property
    def error(self) -> float:
        """The statistic in units of its limit."""
        if self.limit == 0:
            return 0.0 if self.ok else math.inf
        return self.statistic / self.limit


@dataclass
class Law:
    """A distribution in one dtype; ``noise`` and ``value`` are how the compiler draws from it."""

    family: str
    make: Callable[..., Any]
    setting: Values
    dtype: torch.dtype

    @cached_property
    def given(self) -> Values:
        return {name: self._as_given(value) for name, value in self.setting.items()}

    def _as_given(self, value: Any) -> Any:
        if isinstance(value, float | list | tuple):
            return torch.tensor(value, dtype=self.dtype)
        floating = isinstance(value, Tensor) and value.is_floating_point()
        return value.to(self.dtype) if floating else value

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The parameters by which one could differentiate."""
        return {n: v for n, v in self.given.items() if isinstance(v, Tensor) and v.is_floating_point()}

    @cached_property
    def instance(self) -> Any:
        with _default_dtype(self.dtype):
            return self.make(**self.given)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return tuple(self.instance.event_shape)

    @property
    def discrete(self) -> bool:
        return False

    @property
    def one_to_one(self) -> bool:
        """Is the value a known function of one noise, which can be undone?"""
        return False

    @property
    def without_gradient(self) -> frozenset[str]:
        """Names among `tensors` by which a draw has no gradient."""
        return frozenset()

    def noise(self, count: int, seed: int) -> Any:
        """For so many draws."""
        raise TypeError("no law")

    def value(self, noise: Any, given: Values) -> Tensor:
        """The draws that ``noise`` gives with these parameters; the leading dim counts them."""
        raise TypeError("no law")

    def run(self, number: int, oracle: Oracle, draws: int, seed: int, skip: Collection[str]) -> Iterator[FamilyCheck]:
        """All checks that this dtype is for."""
        for name, check in self.checks(oracle, draws, seed):
            if name in skip:
                continue
            try:
                found = check()
            except Exception as error:  # whatever a user's function raises is what is wrong with it
                found = math.inf, 0.0, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            if found is not None:
                yield FamilyCheck(name, number, str(self.dtype).removeprefix("torch."), *found)

    def checks(self, oracle: Oracle, draws: int, seed: int) -> Iterator[tuple[str, Callable[[], Found | None]]]:
        value = _once(lambda: self.value(self.noise(draws, seed), self.given).detach())
        yield "shape", lambda: self._shape(value())
        if oracle.cdf is not None:
            law, cdf = chi_square if self.discrete else kolmogorov_smirnov, partial(self._cdf, oracle.cdf)
            yield "law", lambda: law(self._on_the_line(value()), cdf, self.dtype)
        elif self.discrete:
            yield "law", lambda: self._masses(value(), oracle)
        yield "score", lambda: self._score(value().double(), oracle)
        if self.dtype == torch.float64:
            yield "gradient", lambda: self._gradient(seed)
            yield "zero gradient", lambda: self._zero_gradient(seed)

    def _shape(self, value: Tensor) -> Found:
        wanted = (len(value), *self.event_shape)
        if value.shape != wanted:
            return math.inf, 0.0, f"{tuple(value.shape)}, not {wanted}"
        if value.dtype not in (self.dtype, torch.long):
            return math.inf, 0.0, f"{value.dtype}, not {self.dtype}"
        return float(value.isnan().any()), 0.0, ""

    # the law

    def _on_the_line(self, value: Tensor) -> Tensor:
        if self.event_shape:
            raise ValueError("a cdf is of a family on the line; check the law of vectors by their density")
        return value.double()

    def _cdf(self, cdf: Callable[..., Any], value: Tensor) -> Tensor:
        return torch.as_tensor(cdf(value, **self.setting), dtype=torch.float64)

    def _masses(self, value: Tensor, oracle: Oracle) -> Found:
        """Chi-square of the values that were drawn, against their probabilities."""
        values, counts = value.unique(dim=0, return_counts=True)
        exact = _with_dtype(self, torch.float64)
        values = values.double() if values.is_floating_point() else values
        masses = exact.log_prob(values, exact.given, oracle).exp().double()
        if (impossible := masses == 0).any():
            return math.inf, 0.0, f"{values[impossible][0].tolist()} is impossible"
        common = len(value) * masses >= 5
        observed = [*counts[common].tolist(), float(counts[~common].sum())]
        expected = [*(len(value) * masses[common]).tolist(), len(value) * max(1 - float(masses[common].sum()), 0.0)]
        return chi_square_of(observed, expected)

    def _score(self, value: Tensor, oracle: Oracle) -> Found | None:
        """The mean of grad log p in standard errors, estimated from chunks."""
        if self.discrete and _is_concentrated(value):
            return None  # the probabilities say all
        exact = _with_dtype(self, torch.float64)
        leaves = {n: v.clone().requires_grad_() for n, v in exact.tensors.items() if not exact.moves_support(n)}
        otherwise = oracle.cdf is not None or self.discrete or self.one_to_one
        if not leaves and otherwise:
            return None
        scores = list[Tensor]()
        for chunk in value.chunk(CHUNKS):
            given = {**exact.given, **leaves, **exact._constrained(leaves)}
            mean = exact.log_prob(chunk, given, oracle).mean()
            if leaves and mean.requires_grad:
                found = torch.autograd.grad(mean, list(leaves.values()), allow_unused=True, materialize_grads=True)
                scores.append(torch.cat([score.flatten() for score in found]))
        score = torch.stack(scores) if scores else torch.zeros(CHUNKS, 0)
        score = score[:, (score != 0).any(0)]
        if not score.numel():
            return None if otherwise else (math.inf, 0.0, "the law is unchecked: pass cdf= or log_prob=")
        standard = score.mean(0) / (score.std(0) / math.sqrt(len(score)))
        return largest(standard), SCORE_LIMIT, ""

    def log_prob(self, value: Tensor, given: Values, oracle: Oracle) -> Tensor:
        with _default_dtype(self.dtype):  # of what is made from numbers
            return self._log_prob(value, given, oracle)

    def _log_prob(self, value: Tensor, given: Values, oracle: Oracle) -> Tensor:
        if oracle.log_prob is not None:
            return oracle.log_prob(value, **given)
        return self.make(**given).log_prob(value)

    def moves_support(self, name: str) -> bool:
        """Does the support depend on this parameter? The identity of the score does not hold then."""
        try:
            given = self.given[name]
            moved = [torch.where(given == 0, more, given * (1 + more)) for more in (0.0, -1e-3, 1e-3)]
            supports = [self.make(**{**self.given, name: value}).support for value in moved]
        except (NotImplementedError, ValueError, AttributeError, RuntimeError):
            return False
        return len({_bounds(support) for support in supports}) > 1

    # gradients

    def _gradient(self, seed: int) -> Found | None:
        """The largest relative error against central differences; the outputs are weighted."""
        noise, names = self.noise(8, seed), [name for name in self.tensors if name not in self.without_gradient]
        if not names:
            return None
        weights = torch.rand(self.value(noise, self.given).shape, generator=_generator(seed), dtype=torch.float64) + 0.5

        def total(given: Values) -> Tensor:
            return (weights * self.value(noise, {**given, **self._constrained(given)})).sum()

        leaves = {name: self.tensors[name].clone().requires_grad_() for name in names}
        value, inputs = total({**self.given, **leaves}), list(leaves.values())
        found = (
            torch.autograd.grad(value, inputs, allow_unused=True, materialize_grads=True)
            if value.requires_grad
            else [torch.zeros_like(leaf) for leaf in inputs]
        )
        size = float((weights * self.value(noise, self.given)).abs().sum().detach())
        errors = [
            difference_error(lambda v, name=name: total({**self.given, name: v}), self.tensors[name], gradient, size)
            for name, gradient in zip(names, found, strict=True)
        ]
        return max(errors), 1e-3, ""

    def _constrained(self, given: Values) -> Values:
        """Matrices stay symmetric, or triangular, when one of their elements is changed."""
        constraints = getattr(self.instance, "arg_constraints", {})
        constraints = constraints if isinstance(constraints, Mapping) else {}
        changed: Values = {}
        for name, value in given.items():
            kind = type(constraints.get(name)).__name__
            if "PositiveDefinite" in kind or "Symmetric" in kind:
                changed[name] = (value + value.mT) / 2
            elif "LowerCholesky" in kind or "LowerTriangular" in kind:
                changed[name] = value.tril()
        return changed

    def _zero_gradient(self, seed: int) -> Found | None:
        names = [name for name in self.tensors if name in self.without_gradient]
        if not names:
            return None
        leaves = {name: self.tensors[name].clone().requires_grad_() for name in names}
        value = self.value(self.noise(8, seed), {**self.given, **leaves})
        if not value.requires_grad:
            return 0.0, 0.0, ""
        found = torch.autograd.grad(value.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True)
        return max(float(gradient.abs().max()) for gradient in found), 0.0, ""


def _with_dtype(law: Law, dtype: torch.dtype) -> Law:
    return law if law.dtype == dtype else Law(law.family, law.make, law.setting, dtype)


@dataclass
class Transformed(Law):
    """Of a family that is written as noise and one formula."""

    entry: NoiseTransform

    @property
    def discrete(self) -> bool:
        return self.entry.discrete

    @property
    def one_to_one(self) -> bool:
        return self.entry.inverse is not None

    @property
    def without_gradient(self) -> frozenset[str]:
        none = set(self.entry.without_gradient)
        return frozenset(none | {name for param in none for name in self.entry.conversions.get(param, {})})

    def params(self, given: Values) -> list[Any]:
        """As ``forward`` takes them; a last one that is left to its default is missing."""
        found = list[Any]()
        for name in self.entry.params:
            others = self.entry.conversions.get(name, {})
            other = next((other for other in others if given.get(other) is not None), None)
            if given.get(name) is not None:
                found.append(given[name])
            elif other is not None:
                formula = others[other]
                found.append(formula.function(given[other], *(given[name] for name in converted_with(formula))))
        return found

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the canonical parameters."""
        params = zip(self.entry.params, self.params(self.given), strict=False)
        return {name: tuple(p.shape) if isinstance(p, Tensor) else () for name, p in params}

    def _shape(self, value: Tensor) -> Found:
        known, said = self.entry.event_dim_at(self.shapes()), event_dim_of(self.instance)
        return super()._shape(value) if known == said else (math.inf, 0.0, f"{known} event dims, not {said}")

    def noise(self, count: int, seed: int) -> list[Tensor]:
        shape, shapes = (count, *self.event_shape), self.shapes()
        generator, device = _generator(seed), torch.get_default_device()
        return [
            source.law.draw.function(size, dtype=source.dtype or self.dtype, device=device, generator=generator)
            for source, size in zip(self.entry.noises, self.entry.noise_shapes(shape, shapes), strict=True)
        ]

    def value(self, noise: Any, given: Values) -> Tensor:
        value = self.entry.forward.function(*noise, *self.params(given))
        return value if noise else value.expand(8, *value.shape)

    def checks(self, oracle: Oracle, draws: int, seed: int) -> Iterator[tuple[str, Callable[[], Found | None]]]:
        found = self._all_checks(oracle, draws, seed)
        yield from ((name, check) for name, check in found if not (self.entry.biased and name in OF_DERIVATIVES))

    def _all_checks(self, oracle: Oracle, draws: int, seed: int) -> Iterator[tuple[str, Callable[[], Found | None]]]:
        yield from super().checks(oracle, draws, seed)
        if self.dtype == torch.float32:
            yield "numbers", lambda: self._numbers(seed)
            return
        if (formula := LOG_PROBS.get(self.family)) is not None:
            yield "density", lambda: self._density(formula, oracle, seed)
        if self.entry.inverse is not None:
            inverse = self.entry.inverse
            yield "inverse", lambda: self._inverse(inverse, seed)
            yield "jacobian", lambda: self._jacobian(oracle, seed)
        if self.entry.noises:
            yield "batch", lambda: self._batch(seed)
        able = {"torch.compile": self._compiled, "vmap": self._mapped, "double backward": self._twice}
        for name, check in able.items():
            if name not in self.entry.limits and self.entry.noises:
                yield name, partial(check, seed)

    def _density(self, formula: Formula, oracle: Oracle, seed: int) -> Found:
        value = self.value(self.noise(200, seed), self.given)
        ours = formula.function(value, *self.params(self.given))
        theirs = self.log_prob(value, self.given, oracle)
        if ours.shape != theirs.shape:
            return math.inf, 0.0, f"{tuple(ours.shape)}, not {tuple(theirs.shape)}"
        both = ours.isfinite() & theirs.isfinite() | (ours != theirs)
        return largest(((ours - theirs) / (1 + theirs.abs()))[both]), 1e-6, ""

    def _inverse(self, inverse: Formula, seed: int) -> Found:
        params, (noise,) = self.params(self.given), self.noise(200, seed)
        value = self.value([noise], self.given)
        again = inverse.function(value, *params)
        return (
            max(relative_error(again, noise), relative_error(self.entry.forward.function(again, *params), value)),
            1e-6,
            "",
        )

    def _jacobian(self, oracle: Oracle, seed: int) -> Found | None:
        """log p(value) = log p(noise) - log |d value / d noise|."""
        params, (noises,) = self.params(self.given), self.noise(20, seed)
        errors = list[float]()
        for noise in noises:
            slope: Any = torch.autograd.functional.jacobian(lambda e: self.entry.forward.function(e, *params), noise)
            value, size = self.entry.forward.function(noise, *params), noise.numel()
            if value.numel() not in (size, size + 1):  # of probabilities, the last follows from the others
                return None
            volume = torch.linalg.slogdet(slope.reshape(-1, size)[:size]).logabsdet
            ours = _NOISE_DENSITIES[self.entry.noises[0].law.name](noise).sum() - volume
            errors.append(float((ours - self.log_prob(value, self.given, oracle).sum()).abs()))
        return largest(torch.tensor(errors)), 1e-6, ""

    def _batch(self, seed: int) -> Found | None:
        """All parameters in one batch, and each in a batch beside the others, which all rows share."""
        names = list(self.tensors)
        errors = [self._rows(batched, seed) for batched in [names, *([name] for name in names)] if batched]
        return (max(errors), 1e-7, "") if errors else None

    def _takes(self, given: Values) -> bool:
        """Does the class take these parameters? Others cannot be met."""
        try:
            self.make(**given)
        except Exception:  # whatever a class raises
            return False
        return True

    def _rows(self, batched: Collection[str], seed: int) -> float:
        """The error of draws with different parameters, taken together, against each alone."""
        noise, rows = self.noise(3, seed), [{n: _moved(self.tensors[n], row) for n in batched} for row in range(3)]
        together = {name: torch.stack([row[name] for row in rows]) for name in batched}
        if not self._takes({**self.given, **together}):
            return 0.0
        alone = [
            self.entry.forward.function(*(e[i] for e in noise), *self.params({**self.given, **row}))
            for i, row in enumerate(rows)
        ]
        found = self.entry.forward.function(*noise, *self.params({**self.given, **together}))
        return relative_error(found, torch.stack(alone))

    def _numbers(self, seed: int) -> Found | None:
        if not self.tensors or any(value.dim() for value in self.tensors.values()) or not self.entry.noises:
            return None
        noise = self.noise(100, seed)
        tensors = self.value(noise, self.given).double()
        return relative_error(self.value(noise, {n: self.setting[n] for n in self.given}).double(), tensors), 1e-4, ""

    def _compiled(self, seed: int) -> Found:
        """Nothing breaks the graph: no branch on data, no value read back."""
        noise, params = self.noise(4, seed), self.params(self.given)
        torch.compiler.reset()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = torch.compile(self.entry.forward.function, fullgraph=True, backend="eager")
            found = compiled(*noise, *params)
        return relative_error(found, self.entry.forward.function(*noise, *params)), 1e-9, ""

    def _mapped(self, seed: int) -> Found:
        noise, params = self.noise(4, seed), self.params(self.given)
        mapped = torch.func.vmap(lambda *rows: self.entry.forward.function(*rows, *params))(*noise)
        rows = [self.entry.forward.function(*(e[i] for e in noise), *params) for i in range(4)]
        return relative_error(mapped, torch.stack(rows)), 1e-9, ""

    def _twice(self, seed: int) -> Found | None:
        leaves = {n: v.clone().requires_grad_() for n, v in self.tensors.items() if n not in self.without_gradient}
        if not leaves:
            return None
        value = self.value(self.noise(3, seed), {**self.given, **leaves})
        inputs = list(leaves.values())
        first = torch.autograd.grad(value.sum(), inputs, create_graph=True, allow_unused=True, materialize_grads=True)
        total = torch.stack([part.sum() for part in first]).sum()
        second = torch.autograd.grad(total, inputs, allow_unused=True) if total.requires_grad else ()
        finite = all(part.isfinite().all() for part in (*first, *second) if part is not None)
        return float(not finite), 0.0, ""


@dataclass
class Composed(Law):
    """Of a family that holds other distributions: drawn from through the compiler."""

    @cached_property
    def _module(self) -> Any:
        rest = {name: value for name, value in self.given.items() if name not in self.tensors}

        def model(copies: Tensor, tensors: dict[str, Tensor]) -> None:
            with pyro.plate("copies", len(copies)):
                pyro.sample("x", self.make(**tensors, **rest))

        with _default_dtype(self.dtype):
            graph = trace(model, (torch.zeros(11), self.tensors), targets="x")
        return compile_graph(lower(graph), readable=False)

    @property
    def discrete(self) -> bool:
        try:
            return bool(self.instance.support.is_discrete)
        except (NotImplementedError, AttributeError):
            return False

    def noise(self, count: int, seed: int) -> Any:
        copies = torch.zeros(count, dtype=self.dtype)
        return copies, self._module.sample_noise(copies, self.tensors, generator=_generator(seed))

    def value(self, noise: Any, given: Values) -> Tensor:
        copies, draws = noise
        tensors = {name: given[name] for name in self.tensors}
        with _default_dtype(self.dtype):
            return self._module(copies, tensors, noise=draws)["x"]


_NOISE_DENSITIES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "StandardNormal": lambda e: -0.5 * (e**2 + math.log(2 * math.pi)),
    "StandardExponential": lambda e: -e,
    "StandardUniform": torch.zeros_like,
}
"""Logarithms of the densities of the noise laws."""


def _moved(value: Tensor, row: int) -> Tensor:
    """A little nearer to 0, where a constraint allows most values to be; 0 itself a little above it."""
    return value + 1e-3 * row if not value.dim() and value == 0 else value * (1 - 1e-3 * row)


def _bounds(support: Any) -> str:
    """A constraint with its numbers as text."""
    parts = vars(support) if isinstance(support, constraints.Constraint) else {}
    inner = [
        f"{name}={value.tolist() if isinstance(value, Tensor) else _bounds(value)}" for name, value in parts.items()
    ]
    return f"{type(support).__name__}({', '.join(inner)})" if parts else repr(support)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator(torch.get_default_device()).manual_seed(seed)


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _is_concentrated(value: Tensor) -> bool:
    """Are nearly all draws of values that come again and again?"""
    counts = value.unique(dim=0, return_counts=True)[1]
    return float(counts[counts >= 5].sum()) > 0.9 * len(value)


def _once(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Computed at the first call; what it raises is raised at every one."""
    found = list[Tensor]()

    def value() -> Tensor:
        if not found:
            found.append(compute())
        return found[0]

    return value
