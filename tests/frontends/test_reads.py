"""Every way by which a value may leave the static graph: its own code, its site and its line; and the harmless ones."""

from __future__ import annotations

import runpy
from pathlib import Path
from textwrap import indent
from typing import Any

import pytest

import dgmcompile as dgm

HEAD = """
import copy, logging, math, operator, pickle, random, warnings
import numpy as np
import pyro, torch
import pyro.distributions as dist
import torch.nn.functional as F

OWN, NUMPYS, OLD = random.Random(1), np.random.default_rng(1), np.random.RandomState(1)

def z(n=3):
    return pyro.sample("z", dist.Normal(torch.zeros(n), 1.0).to_event(1))

def k():
    return pyro.sample("k", dist.Categorical(torch.ones(3)))

def target(loc):
    pyro.sample("x", dist.Normal(loc, 1.0).to_event(torch.as_tensor(loc).dim()))

def model():
""".lstrip()
LINE = len(HEAD.splitlines()) + 1


def traced(body: str, folder: Path) -> Any:
    file = folder / "model.py"
    file.write_text(HEAD + indent(body, "    ") + "\n", "utf-8")
    return dgm.trace(runpy.run_path(str(file))["model"])


DECIDES = [
    ("target(1.0 if k() == 1 else 2.0)", "value-branch"),
    ("target(1.0 if torch.is_nonzero(k()) else 2.0)", "value-branch"),
    ("target(1.0 if torch.equal(k(), torch.tensor(1)) else 2.0)", "value-branch"),
    ("target(1.0 if torch.allclose(z(), torch.zeros(3)) else 2.0)", "value-branch"),
    ("target(1.0 if 0.5 in z() else 2.0)", "value-branch"),
    ("target(1.0 if k().item() > 1 else 2.0)", "value-branch"),
    ("target(max(z()))", "value-branch"),
    ("target(sorted(z())[0])", "value-branch"),
    ("target(1.0 * any(z() > 0))", "value-branch"),
    ("target(sum(1.0 for e in z() if e > 0))", "value-branch"),
    ("target(z() * (k() > 0 and 2.0))", "value-branch"),
    ("h = z().sum()\nwhile h < 3: h = h + 1\ntarget(h)", "value-loop"),
    ("target(sum(0.5 for _ in range(int(k()))))", "value-loop"),
    ("target(sum(0.5 for _ in range(k())))", "value-loop"),
    ("target([0.1, 0.2, 0.3][k()])", "value-index"),
    ("target([0.1, 0.2, 0.3][int(k())])", "value-index"),
    ("target({0: 0.1, 1: 0.2, 2: 0.3}[k().item()])", "value-index"),
    ("target(1.0 * len([1] * k()))", "value-index"),
    ("target(1.0 * operator.index(k()))", "value-index"),
    ("target(z()[: k() + 1].sum())", "value-slice"),
    ("h = torch.zeros(3)\nh[k() :] = 1.0\ntarget(h)", "value-slice"),
    ("target(torch.ones(k() + 1).sum())", "value-size"),
    ("target(z(1).expand(k() + 1).sum())", "value-size"),
    ("target(torch.arange(k() + 1).sum() * 1.0)", "value-size"),
    ("target(z().roll(k()))", "value-size"),
    ("target(z().unsqueeze(k() * 0))", "value-size"),
    ("target(z().topk(k() * 0 + 1).values)", "value-size"),
    ("target(F.pad(z(), (0, k())).sum())", "value-size"),
    ("h = z()\ntarget(h[h > 0].sum())", "value-shape"),
    ("target(torch.masked_select(z(), torch.ones(3) > 0).sum())", "value-shape"),
    ("target(torch.where(z() > 0)[0].sum() * 1.0)", "value-shape"),
    ("target(float(len((z() > 0).nonzero())))", "value-shape"),
    ("target((z() > 0).nonzero().shape[0] * 1.0)", "value-shape"),
    ("target((z() > 0).nonzero().flatten().numel() * 1.0)", "value-shape"),
    ("target(torch.unique(z() > 0).size(0) * 1.0)", "value-shape"),
    ("target(sum(0.1 for _ in (z() > 0).nonzero()))", "value-shape"),
    ("target(z().repeat_interleave(k() + 1).sum())", "value-shape"),
    ("target(F.one_hot(k()).sum() * 1.0)", "value-shape"),
    ("target(z().split(k() + 1)[0].sum())", "value-shape"),
    ("target(z().sum().item())", "value-number"),
    ("target(float(z().sum()))", "value-number"),
    ("target(1.0 * int(k()))", "value-number"),
    ("target(complex(k()).real)", "value-number"),
    ("target(math.exp(k()))", "value-number"),
    ("print(s := z().sum().item(), end='')\ntarget(s)", "value-number"),
    ("assert (s := z().sum().item()) < 1e9\ntarget(s)", "value-number"),
    ("kept = []\ndef log(x): kept.append(x)\nlog(z().sum().item())\ntarget(kept[0])", "value-number"),
    ("target(sum(z().tolist()))", "value-list"),
    ("target(float(z().detach().numpy().sum()))", "value-array"),
    ("target(float(np.asarray(z()).sum()))", "value-array"),
    ("target(float(np.from_dlpack(z().detach()).sum()))", "value-array"),
    ("target(pickle.loads(pickle.dumps(k())) * 1.0)", "value-array"),
    ("target(copy.copy(z()))", "value-array"),
    ("target(z().untyped_storage()[0] * 1.0)", "value-array"),
    ("kind = '%s' % k()\ntarget(1.0 * len(kind))", "value-text"),
    ("kind = repr(k())\ntarget(1.0 * len(kind))", "value-text"),
    ("kind = f'{k()}'\ntarget(1.0 * len(kind))", "value-text"),
    ("try:\n    assert (z() > 0).all()\nexcept AssertionError:\n    pass\ntarget(0.0)", "value-branch"),
    ("try:\n    if k() > 0: raise ValueError\nexcept ValueError:\n    pass\ntarget(0.0)", "value-branch"),
    ("if k() > 0: warnings.warn('large')\nelse: target(0.0)\ntarget(1.0)", "value-branch"),
    ("target(z() * np.random.randint(2))", "foreign-random"),
    ("target(z() * (1.0 if random.random() < 0.5 else 2.0))", "foreign-random"),
    ("pyro.sample(random.choice('ab'), dist.Normal(0.0, 1.0))", "unstable-sites"),
    ("target(z() + torch.rand(3))", "stray-random"),
    ("target(z() + dist.Normal(0.0, 1.0).sample([3]))", "stray-random"),
    ("target(F.rrelu(z(), training=True))", "stray-random"),
    ("pyro.factor('f', z().sum())\ntarget(0.0)", "factor"),
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("body", "code"), DECIDES)
def test_refused_with_a_code_of_its_own(body: str, code: str, tmp_path: Path):
    with pytest.raises(dgm.CompileError) as caught:
        traced(body, tmp_path)
    problem = caught.value.diagnostics[0]
    assert {found.code for found in caught.value.diagnostics} == {code}
    assert problem.location is not None
    assert LINE <= problem.location.line < LINE + len(body.splitlines())
    if code.startswith("value-"):
        assert "site 'z'" in problem.message or "site 'k'" in problem.message


HARMLESS = [
    "target(z())",
    "h = z()\nassert (h > -100).all()\ntarget(h)",
    "h = z()\nassert h.sum().item() > -100, f'too small: {h}'\ntarget(h)",
    "h = z()\nif not torch.isfinite(h).all(): raise ValueError(f'{h} is not finite')\ntarget(h)",
    "h = z()\nif h.sum() > 100:\n    warnings.warn('large')\ntarget(h)",
    "h = z()\nprint(f'{h} {h.mean().item():.2f}', h, end='')\ntarget(h)",
    "h = z()\nlogging.getLogger('m').info('%s %f', h.tolist(), float(h.detach().sum()))\ntarget(h)",
    "h = z()\ntry:\n    assert h.sum() > -100\nexcept AssertionError as e:\n    raise ValueError from e\ntarget(h)",
    "h = z()\ntry:\n    assert h.sum() > -100\nfinally:\n    target(h)",
    "scale = torch.tensor([1.0, 2.0])\ntarget(z() * scale[1].item() * len(scale.nonzero()))",
    "n = torch.tensor(2)\ntarget(torch.stack([z() for _ in range(1)])[:n, : int(n)].sum() + float(n))",
    "target(z() * torch.unique(torch.tensor([1, 1, 2])).numel())",
    "target(torch.tensor([0.1, 0.2, 0.3])[k()])",
    "target(z() * np.float32(0.5) + np.int64(1))",
    "target(z().exp().polygamma(1))",
    "torch.randn(3)\ntarget(z())",
]


@pytest.mark.parametrize("body", HARMLESS)
def test_harmless(body: str, tmp_path: Path):
    assert traced(body, tmp_path).targets == ("x",)


def test_an_assertion_that_a_caller_catches_is_a_branch(tmp_path: Path):
    body = (
        "def positive(h):\n    assert (h > 0).all()\n    return h\n"
        "h = z()\ntry:\n    h = positive(h)\nexcept AssertionError:\n    h = -h\ntarget(h)"
    )
    with pytest.raises(dgm.CompileError, match="value-branch"):
        traced(body, tmp_path)


def test_a_try_around_the_tracing_catches_nothing_of_the_model(tmp_path: Path):
    try:
        graph = traced("h = z()\nassert (h > -100).all()\ntarget(h)", tmp_path)
    except dgm.CompileError:
        graph = None
    assert graph is not None


RARE = [
    ("target(z() * (10.0 if random.random() < 0.001 else 1.0))", "foreign-random"),
    ("target(z() * (10.0 if np.random.rand() < 0.001 else 1.0))", "foreign-random"),
    ("target(z() * (10.0 if OWN.random() < 0.001 else 1.0))", "foreign-random"),
    ("target(z() * (10.0 if NUMPYS.random() < 0.001 else 1.0))", "foreign-random"),
    ("target(z() * (10.0 if OLD.rand() < 0.001 else 1.0))", "foreign-random"),
    ("target(z() * (10.0 if torch.rand(()) < 0.001 else 1.0))", "value-branch"),
    ("target(z() * (10.0 if torch.rand(1).item() < 0.001 else 1.0))", "value-branch"),
    ("target(z() * (10.0 if torch.bernoulli(torch.tensor(0.001)) else 1.0))", "value-branch"),
    ("target(z() * (10.0 if torch.randint(1000, ()) == 7 else 1.0))", "value-branch"),
    ("h = z()\nwhile torch.rand(()) < 0.001: h = h * 2\ntarget(h)", "value-loop"),
]


@pytest.mark.parametrize(("body", "code"), RARE)
def test_a_rare_branch_on_other_random_numbers_is_refused_though_it_is_not_seen(body: str, code: str, tmp_path: Path):
    with pytest.raises(dgm.CompileError) as found:
        traced(body, tmp_path)
    assert {problem.code for problem in found.value.diagnostics} == {code}
