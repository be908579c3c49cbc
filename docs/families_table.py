"""The tables of the page on families: the registry, and what ``python -m tests.reparam`` measured of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dgmcompile.reparam import COMPOSITIONS, NOISE_LAWS, NOISE_TRANSFORMS, REFUSED, Composition, NoiseTransform

MEASURED = Path(__file__).parent / "families.json"

WRAPPERS = {
    "ConditionalTransformedDistribution": "after `condition(context)`, a `TransformedDistribution`",
    "ExpandedDistribution": "the shape of the noise",
    "Independent": "the shape of the noise; the loss sums over it",
    "MaskedDistribution": "the mask multiplies the loss",
    "TransformedDistribution": "the base's function, then the steps",
}
"""Public classes that are taken off: what a site holds is the distribution inside."""


def write_families(folder: Path) -> None:
    """``families.md`` and ``auto_reparam.md`` into ``folder``."""
    folder.mkdir(exist_ok=True)
    measured = json.loads(MEASURED.read_text(encoding="utf-8"))
    (folder / "families.md").write_text("\n".join(families_page(measured)), encoding="utf-8")
    (folder / "auto_reparam.md").write_text("\n".join(auto_reparam_page(measured)), encoding="utf-8")


def families_page(measured: Mapping[str, Any]) -> Iterator[str]:
    """Every public class of torch.distributions and pyro.distributions: from noise, from others, or why not."""
    total = len(NOISE_TRANSFORMS) + len(COMPOSITIONS)
    yield f"{total} families are drawn exactly, {len(WRAPPERS)} wrappers are taken off, {len(REFUSED)} are refused.\n"
    yield f"Noise laws: {', '.join(f'`{law.name}`' for law in NOISE_LAWS)}.\n"
    yield "| family | noise | function | gradient | also | oracle | worst error | source |"
    yield "|---|---|---|---|---|---|---|---|"
    for name in sorted([*NOISE_TRANSFORMS.names(), *COMPOSITIONS.names()]):
        entry = NOISE_TRANSFORMS.get(name) or COMPOSITIONS[name]
        cells = _of_transform(entry) if isinstance(entry, NoiseTransform) else _of_composition(entry)
        checks = measured[name]["checks"]
        yield _row(name, *cells, _oracles(checks), _errors(checks), _escaped(entry.source))
    yield "\nWrappers:\n\n| class | what becomes of it |\n|---|---|"
    yield from (_row(name, what) for name, what in WRAPPERS.items())
    yield "\nRefused:\n\n| class | why |\n|---|---|"
    yield from (_row(name, reason) for name, reason in REFUSED.items())


def _of_transform(entry: NoiseTransform) -> tuple[str, str, str, str]:
    noise = ", ".join(_noise(source.law.name, source.dtype) for source in entry.noises) or "none"
    call = f"`{entry.forward.name}({', '.join((*['noise'] * len(entry.noises), *entry.params))})`"
    return noise, call, _gradient(entry), "; ".join(_also(entry))


def _noise(law: str, dtype: Any) -> str:
    return law if dtype is None else f"{law} ({str(dtype).removeprefix('torch.')})"


def _gradient(entry: NoiseTransform) -> str:
    if not entry.params:
        return "yes"
    if entry.biased:
        return "straight-through"
    none = [name for name in entry.params if name in entry.without_gradient]
    said = "yes" if not none else "zero" if len(none) == len(entry.params) else f"none to {', '.join(none)}"
    return f"{said}; by name {', '.join(f'`{name}`' for name in entry.gradients)}" if entry.gradients else said


def _also(entry: NoiseTransform) -> Iterator[str]:
    yield from (f"variant `{name}`: `{variant.forward.name}`" for name, variant in entry.variants.items())
    yield from (f"no {name}: {_escaped(reason)}" for name, reason in entry.limits.items())


def _of_composition(entry: Composition) -> tuple[str, str, str, str]:
    noise = ", ".join(["that of its parts", *(f"of {name}" for name in entry.also)])
    calls = ", ".join(f"`{formula.name}`" for formula in entry.formulas)
    variants = ", ".join(f"variant `{name}`" for name in entry.variants)
    return noise, calls, "to its parts" if entry.differentiable else "not to every part", variants


def _oracles(checks: list[Mapping[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(check["oracle"] for check in checks)) or "tests of its own"


def _errors(checks: list[Mapping[str, Any]]) -> str:
    return "<br>".join(f"{check['unit']} {check['error']:.2g} of {check['limit']:.2g}" for check in checks)


def auto_reparam_page(measured: Mapping[str, Any]) -> Iterator[str]:
    """Beside each family what Pyro's own strategy does with it."""
    rows = {name: row["auto_reparam"] for name, row in measured.items()}
    free = [name for name, row in rows.items() if row["free"]]
    observed = [name for name, row in rows.items() if row["observed"] and not row["observed"].startswith("refused")]
    yield f"Of {len(rows)} families, `AutoReparam` leaves only noise without parameters of {len(free)} as latents,"
    yield f"and rewrites the observed sites of {len(observed)} ({', '.join(observed) or 'none'}).\n"
    yield "| family | AutoReparam, latent | nothing but noise is left | AutoReparam, observed |"
    yield "|---|---|---|---|"
    for name, row in sorted(rows.items()):
        yield _row(name, row["latent"], "yes" if row["free"] else "no", _escaped(row["observed"]))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell or '-' for cell in cells)} |"


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>()#+-!|$~" else c for c in text)
