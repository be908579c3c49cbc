"""What may be wrong with a registration, found before anything is changed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.distributions import constraints

from dgmcompile.codegen.formulas import NoText, Texts, texts_of
from dgmcompile.diagnostics import CompileError, Diagnostic, Location
from dgmcompile.distill.compositions import COMPOSED_LOG_PROBS
from dgmcompile.distill.divergences import CLOSED_FORMS, LOG_PROBS
from dgmcompile.frontends.distributions import family_of
from dgmcompile.ir.graph import Formula
from dgmcompile.passes.auxiliary import NO_PART_OF_THE_LAW
from dgmcompile.registration.tables import ABSENT, Registered, known_formulas
from dgmcompile.reparam import COMPOSITIONS, NOISE_LAWS, NOISE_TRANSFORMS

Function = Callable[..., Any]
Noise = str | tuple[str, torch.dtype]
Conversions = Mapping[str, Mapping[str, Function]]


@dataclass(frozen=True)
class Kind:
    """What sort of values a family has."""

    discrete: bool
    event_dim: int
    on_all_reals: bool

    def measure(self, family: str) -> str | None:
        """What its density is per unit of: of vectors on some surface nobody knows, so only itself is comparable."""
        if self.discrete:
            return "points"
        return None if self.event_dim == 0 or self.on_all_reals else f"values of {family}"


@dataclass
class Problems:
    """Collects what is wrong with a registration; all of it is raised at once, at the line that registers."""

    cls: Any
    location: Location | None
    what: str = ""
    found: list[Diagnostic] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.cls is None:
            return
        if not (inspect.isclass(self.cls) and issubclass(self.cls, torch.distributions.Distribution)):
            self.what = repr(self.cls)
            self.say(f"{self.cls!r} is no class of distributions", "give the class that programs construct")
            self.raise_all()
        self.what = family_of(self.cls)

    def say(self, message: str, help: str = "see `dgmcompile.register` for what each argument is") -> None:
        self.found.append(
            Diagnostic(
                code="family-arguments",
                message=f"{self.what} cannot be registered: {message}",
                location=self.location,
                help=help,
            )
        )

    def taken(self, message: str) -> None:
        self.found.append(
            Diagnostic(
                code="family-taken",
                message=f"{message} already",
                location=self.location,
                help="to put this one in its place, pass replace=True",
            )
        )

    def raise_all(self) -> None:
        if self.found:
            raise CompileError(*self.found)

    @contextmanager
    def about_to_change(self, replace: bool, params: tuple[str, ...], log_prob: object) -> Iterator[Registered]:
        """Inside, what is replaced is no longer there; all problems are raised in the end."""
        made = Registered(self.what)
        known = NOISE_TRANSFORMS.get(self.what) or COMPOSITIONS.get(self.what)
        if known is not None and not replace:
            self.taken(f"it is known how {self.what} is made of noise")
        elif known is not None:
            self._of_other_parameters(known.params, params)
            if log_prob is not None or known.params != params:  # else the one that is known serves
                made.put(LOG_PROBS, self.what, ABSENT)
                made.put(COMPOSED_LOG_PROBS, self.what, ABSENT)
            made.put(NOISE_TRANSFORMS.table, self.what, ABSENT)
            made.put(COMPOSITIONS.table, self.what, ABSENT)
        try:
            yield made
            self.raise_all()
        except BaseException:
            made.remove()
            raise

    def _of_other_parameters(self, known: tuple[str, ...], params: tuple[str, ...]) -> None:
        """Closed forms read the parameters by their names."""
        used = sorted({name for name, table in CLOSED_FORMS.items() for pair in table if self.what in pair})
        if used and known != params:
            self.say(
                f"its formulas of {', '.join(used)} read ({', '.join(known)}), not ({', '.join(params)})",
                "keep the names and the order of its parameters",
            )

    # the constructor

    def of_parameters(self, params: tuple[str, ...], conversions: Conversions) -> None:
        """Each is the constructor's, and the constructor has no others that a draw may depend on."""
        signature = inspect.signature(self.cls).parameters
        if any(p.kind is p.VAR_KEYWORD for p in signature.values()):
            return
        others = {name for given in conversions.values() for name in given}
        takes = f"its constructor takes ({', '.join(signature)})"
        for name in (*params, *sorted(others)):
            if name not in signature:
                self.say(f"{takes}, and no {name!r}", "name the constructor's own parameters")
        self.of_names("conversions", conversions, params)
        known = {*params, *others, *NO_PART_OF_THE_LAW}
        for name, parameter in signature.items():
            if name not in known and parameter.default is not None:
                self.say(
                    f"{takes}, and nothing is said of {name!r}",
                    "add it to params, as an argument of the function, or to conversions",
                )

    def kind(self, discrete: bool | None, event_dim: int | None) -> Kind:
        """As given, or as the class's ``support`` says."""
        support = getattr(self.cls, "support", None)
        discrete = _said(support, "is_discrete") if discrete is None else discrete
        event_dim = _said(support, "event_dim") if event_dim is None else event_dim
        if discrete is None or event_dim is None:
            self.say("its support does not say what sort of values it has", "pass discrete= and event_dim=")
        base = getattr(support, "base_constraint", support)
        return Kind(bool(discrete), event_dim or 0, base is constraints.real)

    # what was passed

    def of_noises(self, noises: tuple[Noise, ...]) -> None:
        names = [noise if isinstance(noise, str) else noise[0] for noise in noises]
        self.of_names("noises", names, NOISE_LAWS.names())

    def of_names(self, argument: str, names: Iterable[str], known: Iterable[str]) -> None:
        known = tuple(known)
        for name in names:
            if name not in known:
                self.say(f"{argument}: there is no {name!r}", f"choose among {', '.join(known) or 'none'}")

    def params_of(self, family: str) -> tuple[str, ...]:
        entry = NOISE_TRANSFORMS.get(family) or COMPOSITIONS.get(family)
        if entry is None:
            self.say(f"the family {family} is not known", "register the family first")
            return ()
        return entry.params

    # functions

    def formulas(self, functions: Mapping[str, tuple[Function | None, int]]) -> dict[str, Formula]:
        """By name; each takes so many arguments by position."""
        found: dict[str, Formula] = {}
        for role, (function, count) in functions.items():
            if function is None:
                continue
            if not inspect.isfunction(function):
                self.say(f"{role} is no plain function: {function!r:.200}", "write it as a function with `def`")
                continue
            try:
                inspect.signature(function).bind(*range(count))
            except TypeError:
                self.say(
                    f"{role}, {function.__name__}{inspect.signature(function)}, is called with {count} arguments",
                    "it takes the noises (or the value), then the parameters in the order of params",
                )
            found[role] = Formula.of(function)
        return found

    def of_texts(self, formulas: Mapping[str, Formula]) -> None:
        """Each can stand in an emitted file, beside all others; not asked where these may be the same ones again."""
        if any(problem.code == "family-taken" for problem in self.found):
            return
        texts = texts_of(known_formulas().values())
        for formula in formulas.values():
            trial = Texts(dict(texts.definitions), dict(texts.imports), dict(texts._functions), dict(texts._constants))
            try:
                trial.add(formula.name, formula.function)
                texts = trial
            except NoText as problem:
                self.found.append(
                    Diagnostic(
                        code="family-formula",
                        message=f"the text of {formula.name!r} cannot stand in emitted files: {problem.reason}",
                        location=_definition(formula.function) or self.location,
                        help="write a plain function with `def` that reads torch, math, F, numbers and functions like "
                        "itself, under names of their own",
                    )
                )


def _said(support: Any, name: str) -> Any:
    """What a class's constraint says of its values; None where it depends on the parameters, or is a property."""
    try:
        return getattr(support, name, None)
    except NotImplementedError:
        return None


def _definition(function: Function) -> Location | None:
    code = getattr(function, "__code__", None)
    return Location(code.co_filename, code.co_firstlineno) if code is not None else None
