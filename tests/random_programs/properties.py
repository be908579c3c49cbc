"""What has to hold of any program: the compiled form is the same program, in every form and in a pair."""

from __future__ import annotations

import ast
import re
import runpy
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import pyro
import torch
from pyro import poutine
from pyro.infer.inspect import get_model_relations
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile import replay
from dgmcompile.codegen import module as emission
from dgmcompile.codegen.formatting import formatted
from dgmcompile.distill.losses import LossOptions, with_losses
from dgmcompile.ir.graph import Sample
from dgmcompile.reparam import NOISE_TRANSFORMS
from tests import seeds
from tests.random_programs.by_handlers import FEW_DIGITS, UNCOMPARED, LossByHandlers
from tests.random_programs.program import RandomProgram

SIZES = (4, 7, 5)
"""Batch sizes: that of the recording, another one, and that of a second recording."""

PARTS = ("replay", "text", "relations", "sizes", "forms", "emitted", "pair")


class Invalid(Exception):
    """Pyro cannot run the program, or it draws a value that is no number."""


class Violation(AssertionError):
    """A property does not hold; ``part`` says which."""

    def __init__(self, part: str, cause: BaseException) -> None:
        super().__init__(f"{part}: {type(cause).__name__}: {cause}")
        self.part = part


def check_program(program: RandomProgram, folder: Path, parts: Collection[str] = PARTS) -> None:
    """All that has to hold of one program.

    Args:
        folder: where its source is written, as diagnostics quote it.
        parts: of `PARTS`; "replay" at least.
    Errors:
        `Invalid` where the program is none; `Violation` for the first property that does not hold.
    """
    with _around(), patch.object(emission, "formatted", str):  # which takes longer than all the rest of emission
        teacher = Loaded.of(program.source, folder / "teacher.py", seed=1, sampled=program.sampled)
        checks = _Checks(program, teacher, folder)
        for part in PARTS:
            if part in parts:
                try:
                    getattr(checks, part)()
                except Invalid:
                    raise
                except Exception as error:
                    raise Violation(part, error) from error


@contextmanager
def _around() -> Iterator[None]:
    """Double precision, and nothing of the program's stays."""
    dtype, validation = torch.get_default_dtype(), torch.distributions.Distribution._validate_args
    torch.set_default_dtype(torch.float64)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings(), pyro.get_param_store().scope():
            warnings.filterwarnings("ignore", message="Singular sample detected")  # by torch, of any Wishart sample
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.distributions.Distribution.set_default_validate_args(validation)


@dataclass
class Loaded:
    """A program that runs. ``store``: what its parameter store holds."""

    model: Any
    example: Any
    names: dict[str, Any]
    store: Any = field(default_factory=lambda: {"params": {}, "constraints": {}})

    @classmethod
    def of(cls, source: str, path: Path, seed: int, sampled: bool) -> Loaded:
        """
        Errors:
            `Invalid`.
        """
        path.write_text(source, encoding="utf-8")
        torch.manual_seed(seed)
        try:
            names = runpy.run_path(str(path))
            made = cls(names["model"], names["example"], names)
            with made.inside():
                for size in SIZES[:2]:
                    made.run(size, sampled)
        except Exception as error:
            raise Invalid(f"{type(error).__name__}: {error}") from error
        return made

    def inside(self) -> AbstractContextManager[Any]:
        """Its own parameter store."""
        return pyro.get_param_store().scope(self.store)

    def run(self, size: int, sampled: bool) -> None:
        """Once, with Pyro's checks."""
        args, kwargs = self.arguments(size)
        model = self.model if sampled else dgm.FullReparam()(self.model)
        with pyro.validation_enabled(sampled), torch.no_grad():
            trace = poutine.trace(model).get_trace(*args, **kwargs)
        for name, site in trace.nodes.items():
            if site["type"] == "sample" and isinstance(site["value"], Tensor) and not site["value"].isfinite().all():
                raise Invalid(f"the value of {name!r} is not finite")

    def arguments(self, size: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Of a batch of this size; the same each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(size)
            return self.example(size)

    def parameters(self) -> dict[str, Tensor]:
        """What it learns, by any name."""
        found = dict[int, tuple[str, Tensor]]()
        for name, value in self.names.items():
            if isinstance(value, nn.Module):
                for path, tensor in value.named_parameters():
                    found.setdefault(id(tensor), (f"{name}.{path}", tensor))
            elif isinstance(value, Tensor) and value.requires_grad:
                found.setdefault(id(value), (name, value))
        owner = getattr(self.model, "__self__", None)
        if isinstance(owner, nn.Module):
            for path, tensor in owner.named_parameters():
                found.setdefault(id(tensor), (path, tensor))
        for name, tensor in self.store["params"].items():
            found.setdefault(id(tensor), (name, tensor))
        return dict(found.values())


class _Checks:
    """The properties, in the order of `PARTS`."""

    def __init__(self, program: RandomProgram, teacher: Loaded, folder: Path) -> None:
        self._program, self._teacher, self._folder = program, teacher, folder
        self._args, self._kwargs = teacher.arguments(SIZES[0])
        self._graph: Any = None

    def _traced(self, loaded: Loaded, size: int = SIZES[0]) -> Any:
        args, kwargs = loaded.arguments(size)
        targets = self._program.targets
        with loaded.inside():
            return dgm.trace(loaded.model, args, kwargs, None if targets is None else list(targets))

    def replay(self) -> None:
        """The compact form, run at another size than it was recorded at, agrees with the program on every site."""
        try:
            self._graph = self._traced(self._teacher)
        except dgm.CompileError as error:
            if not self._program.sampled and error.diagnostics[0].code == "program-raised":
                raise Invalid(str(error)) from error  # by a sampler of Pyro's, which nothing has run before
            raise
        with self._teacher.inside(), patch.object(replay, "trace", lambda *_, **__: self._graph):
            report = dgm.check(self._teacher.model, self._args, self._kwargs)
        assert report.ok, str(report)
        fixed = [g for g in self._graph.guards if type(g.expected) is int and (g.dim == 0 or g.path == ("n",))]
        assert not fixed, f"the batch size is fixed: {fixed[0]}"
        if "GaussianScaleMixture" not in self._program.source:  # whose log-probability Pyro writes in place
            assert not report.not_compared, report.not_compared
        self._semi = dgm.semi_auxiliary(self._graph)
        self._compact = dgm.compact(self._semi)

    def text(self) -> None:
        """Each form comes back from its text."""
        for form in (self._graph, self._semi, self._compact):
            text = str(form)
            parsed = dgm.parse(text)
            assert parsed == form and str(parsed) == text

    def relations(self) -> None:
        """The edges between sites are those that Pyro's own inspection finds."""
        if not self._program.exact_relations or not self._program.sampled:
            return
        with self._teacher.inside(), pyro.validation_enabled(False):  # what is observed need not be possible
            try:
                found = get_model_relations(self._teacher.model, self._args, self._kwargs)["sample_sample"]
            except (
                AttributeError,
                RuntimeError,
                TypeError,
                ValueError,
            ):  # Pyro's tensors that know where they come from
                return
        theirs = {(parent, child) for child, parents in found.items() for parent in parents if parent != child}
        parents = set(found) - self._masked_out()
        ours = {(a, b) for a, b in self._graph.variables().edges if a in parents and b in found}
        assert ours == theirs, f"only ours: {sorted(ours - theirs)}; only Pyro's: {sorted(theirs - ours)}"

    def _masked_out(self) -> set[str]:
        """Observed sites under a mask that is False, of whose values Pyro's inspection loses sight."""
        with self._teacher.inside(), torch.no_grad(), pyro.validation_enabled(False):
            nodes = poutine.trace(self._teacher.model).get_trace(*self._args, **self._kwargs).nodes
        return {name for name, n in nodes.items() if n["type"] == "sample" and n["is_observed"] and n["mask"] is False}

    def sizes(self) -> None:
        """A recording at another size gives the same graph."""
        again = self._traced(self._teacher, SIZES[2])
        assert _without_reasons(str(again)) == _without_reasons(str(self._graph))

    def forms(self) -> None:
        """Compaction changes no value, to the last bit, at any size."""
        semi, compact = dgm.compile(self._semi), dgm.compile(self._compact)
        for size in SIZES[:2]:
            args, kwargs = self._teacher.arguments(size)
            noise = _noise(semi, args, kwargs)
            fewer = {name: noise[name] for name in _noise(compact, args, kwargs)}
            _same(_values(semi, args, kwargs, noise), _values(compact, args, kwargs, fewer))

    def emitted(self) -> None:
        """The text of a compiled form, run alone with the weights in a file, is that form."""
        with patch.object(emission, "formatted", formatted):
            compact: Any = dgm.compile(self._compact)
        alone = self._alone(compact.source)
        made: Any = getattr(alone, type(compact).__name__)()
        torch.save(compact.state_dict(), self._folder / "weights.pt")
        alone.load_weights(made, self._folder / "weights.pt")
        _in_the_modes_of(compact, made)
        args, kwargs = self._teacher.arguments(SIZES[1])
        noise = _noise(compact, args, kwargs)
        _same(_noise(made, args, kwargs), noise)
        _same(_values(made, args, kwargs, noise), _values(compact, args, kwargs, noise))

    def _alone(self, source: str) -> ModuleType:
        """The emitted text as a module of its own; it imports nothing but torch and the standard library."""
        imported = {
            name.partition(".")[0]
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [n.name for n in node.names])
        }
        assert not imported & {"pyro", "dgmcompile"}, imported
        path = self._folder / "emitted.py"
        path.write_text(source, encoding="utf-8")
        made = ModuleType("emitted")
        vars(made).update(runpy.run_path(str(path)))
        return made

    def pair(self) -> None:
        """The loss of a pair with a perturbed copy, and its gradients, are those by handlers; its file is the same."""
        program = self._program
        student = Loaded.of(program.student, self._folder / "student.py", seed=2, sampled=program.sampled)
        pupil = self._traced(student)
        pair = dgm.pair(self._graph, pupil, method=program.method)  # type: ignore[arg-type]
        families = {site.name: site.teacher.family for site in pair.compared}
        weights = {
            name: 0.0 if family in UNCOMPARED else 0.1 * i + 0.3 for i, (name, family) in enumerate(families.items())
        }
        roles = {site.name: site.role for site in pair.compared}
        means = [s.name for s in pair.compared if program.reduction == "mean" and _is_averaged(s.teacher)]
        options: dict[str, Any] = {
            "latent_weight": {name: weight for name, weight in weights.items() if roles[name] == "latent"},
            "target_weight": {name: weight for name, weight in weights.items() if roles[name] == "target"},
            "reduction": {name: "mean" for name in means},
        }
        loss: Any = dgm.compile(pair, **options)
        by_hand = LossByHandlers(
            (self._teacher.model, self._teacher.inside),
            (student.model, student.inside),
            [name for name, role in roles.items() if role == "target"],
            program.method,
            means,
            _estimated(pair, options),
        )
        args, kwargs = self._teacher.arguments(SIZES[1])
        noise = loss.sample_noise(*args, **kwargs, generator=seeds.generator(3))
        out = loss(*args, **kwargs, noise=noise)
        ours = {**out.surrogate, **out.latent}
        theirs = by_hand.terms(args, kwargs, _all_noise(self._graph, args, kwargs, noise))
        assert ours.keys() == theirs.keys(), (ours.keys(), theirs.keys())
        for name, term in theirs.items():
            _close(ours[name], term, f"term of {name!r}", 1e-5 if families[name] in FEW_DIGITS else 1e-8)
        finite = [name for name, term in theirs.items() if term.isfinite()]
        _close(out.total, sum((weights[name] * ours[name] for name in ours), torch.zeros(())), "total", 1e-9)
        found, expected = (
            _gradients(sum((weights[n] * terms[n] for n in finite), torch.zeros(())), student.parameters())
            for terms in (ours, theirs)
        )
        rtol = 1e-4 if FEW_DIGITS & set(families.values()) else 1e-6
        for name, gradient in expected.items():
            _close(found[name], gradient, f"gradient of {name!r}", rtol)
        alone = self._alone(loss.source)
        made = alone.Distillation(alone.Teacher(), alone.Student())
        made.load_state_dict(loss.state_dict())
        made.teacher.load_state_dict(loss.teacher.state_dict())  # which is no part of what is trained
        _in_the_modes_of(loss, made)
        again = made(*args, **kwargs, noise=noise)
        _same({**again.surrogate, **again.latent, "total": again.total}, {**ours, "total": out.total})


def _in_the_modes_of(original: nn.Module, made: nn.Module) -> None:
    """Which are no part of the weights."""
    for theirs, ours in zip(original.modules(), made.modules(), strict=True):
        ours.training = theirs.training


def _without_reasons(text: str) -> str:
    """A guard's reason quotes the sizes that were tried."""
    return re.sub(r'(?m)^(guard\(.*), reason=".*"', r"\1", text)


def _estimated(pair: Any, options: dict[str, Any]) -> set[str]:
    """Sites of transformed laws whose divergence is not that of the laws before the transforms."""
    called = {node.name: getattr(node, "target_name", "") for node in with_losses(pair, LossOptions(**options))}
    transformed = [site for site in pair.compared if site.teacher.transforms]
    return {s.name for s in transformed if called.get(f"{_term(s)}.{s.name}.kl", "").startswith("monte_carlo")}


def _term(site: Any) -> str:
    return "surrogate" if site.role == "target" else "latent"


def _is_averaged(law: Sample) -> bool:
    """Is the event made of independent numbers, whose mean is the sum over their number?"""
    family = NOISE_TRANSFORMS.get(law.family)
    return family is not None and family.event_dim == 0 < law.event_dim and not law.transforms


def _all_noise(graph: Any, args: Any, kwargs: Any, noise: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With the noise of latents that nothing in the loss reads."""
    compiled: Any = dgm.compile(dgm.auxiliary(graph))
    full = compiled.sample_noise(*args, **kwargs, generator=seeds.generator(4))
    return {**full, **noise}


def _noise(compiled: Any, args: Any, kwargs: Any) -> dict[str, Tensor]:
    return compiled.sample_noise(*args, **kwargs, generator=seeds.generator(5))


def _values(compiled: Any, args: Any, kwargs: Any, noise: Mapping[str, Tensor]) -> dict[str, Tensor]:
    torch.manual_seed(6)  # of targets that no noise makes
    with torch.no_grad():
        return compiled(*args, **kwargs, noise=noise)


def _same(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> None:
    """To the last bit."""
    assert a.keys() == b.keys(), (sorted(a), sorted(b))
    for name in a:
        assert a[name].dtype == b[name].dtype, f"{name!r} is {a[name].dtype} and {b[name].dtype}"
        assert a[name].shape == b[name].shape, f"{name!r} has shapes {a[name].shape} and {b[name].shape}"
        worst = (a[name].double() - b[name].double()).abs().max() if a[name].numel() else 0.0
        assert torch.equal(a[name].nan_to_num(), b[name].nan_to_num()), f"{name!r} differs by {float(worst)}"


def _gradients(total: Any, leaves: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if not leaves or not total.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


def _close(found: Any, expected: Any, what: str, rtol: float) -> None:
    found, expected = torch.as_tensor(found).detach(), torch.as_tensor(expected).detach()
    scale = float(expected[expected.isfinite()].abs().max()) if expected.isfinite().any() else 1.0
    torch.testing.assert_close(
        found, expected, rtol=rtol, atol=rtol * max(scale, 1e-3), equal_nan=True, msg=lambda text: f"{what}: {text}"
    )
