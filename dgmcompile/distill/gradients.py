"""Does the gradient of a loss reach what is trained?"""

from __future__ import annotations

from collections.abc import Iterator, Set

from dgmcompile.diagnostics import Diagnostic
from dgmcompile.distill.pair import STUDENT
from dgmcompile.ir.graph import Call, Formula, Graph, Node, Parameter
from dgmcompile.ir.torch_calls import ROUNDED, tensor_word
from dgmcompile.reparam import NOISE_TRANSFORMS

_CUT = ROUNDED | {"detach"}
"""Functions that pass no gradient on, though what they return is real."""


def no_gradient(loss: Graph) -> Iterator[Diagnostic]:
    """A warning, where the student has something to train and no gradient of ``loss`` reaches any of it."""
    trained = [node for node in loss if _is_trained(node, loss)]
    if trained and not _reached(loss).intersection(node.name for node in trained):
        yield Diagnostic(
            severity="warning",
            code="no-gradient",
            message="the loss has no gradient for any of the student's parameters: it cannot be trained by this",
            notes=("none passes draws of whole numbers, thresholds and detached values",),
            help="let targets be the draws themselves, or their laws (dgm.target), not what is made of draws",
        )


def _is_trained(node: Node, graph: Graph) -> bool:
    if isinstance(node, Parameter):
        return node.path.startswith(STUDENT) and node.trainable
    if not isinstance(node, Call) or not node.target_name.startswith(f"self.{STUDENT}"):
        return False
    submodule = graph.binding.modules.get(node.target_name.removeprefix("self."))
    return submodule is not None and any(parameter.requires_grad for parameter in submodule.module.parameters())


def _reached(loss: Graph) -> set[str]:
    """The nodes that the gradient of ``total`` passes, by the dtypes and the functions on its way."""
    jumps = _jumps()
    seen, todo = set[str](), [loss.outputs["total"]]
    while todo:
        name = todo.pop()
        if name not in seen and not _stops(node := loss[name], jumps):
            seen.add(name)
            todo += node.needed
    return seen


def _stops(node: Node, jumps: Set[str]) -> bool:
    if node.dtype is not None and not (node.dtype.is_floating_point or node.dtype.is_complex):
        return True
    if not isinstance(node, Call):
        return False
    return node.target.name in jumps if isinstance(node.target, Formula) else tensor_word(node) in _CUT


def _jumps() -> set[str]:
    """Transforms of noise that are constant but for jumps, whatever their parameters."""
    every = [way for transform in NOISE_TRANSFORMS for way in (transform, *transform.variants.values())]
    return {way.forward.name for way in every if way.without_gradient >= set(way.params)}
