"""Networks that people use, as submodules of plain PyTorch models: ResNets, U-Nets, transformers, of random weights."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Categorical
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, ResNetConfig, ResNetModel, ViTConfig, ViTModel

import dgmcompile as dgm
from dgmcompile.ir.graph import Call
from tests import seeds

IMAGES = torch.randn(4, 1, 16, 16, generator=seeds.generator(0))
TOKENS = torch.randint(30, (4, 7), generator=seeds.generator(0))
WORDS: dict[str, Any] = {"vocab_size": 30, "bos_token_id": 0, "eos_token_id": 0}


def resnet(width: int) -> nn.Module:
    sizes = {"embedding_size": width, "hidden_sizes": [width, 2 * width], "depths": [1, 2]}
    return ResNetModel(ResNetConfig(num_channels=1, layer_type="basic", **sizes))


def transformer_sizes(width: int) -> dict[str, int]:
    return {"hidden_size": width, "intermediate_size": 2 * width, "num_hidden_layers": 2, "num_attention_heads": 2}


def bert(width: int) -> nn.Module:
    return BertModel(BertConfig(**WORDS, max_position_embeddings=20, **transformer_sizes(width)))


def vit(width: int) -> nn.Module:
    return ViTModel(ViTConfig(image_size=16, patch_size=8, num_channels=1, **transformer_sizes(width)))


def gpt2(width: int) -> nn.Module:
    return GPT2Model(GPT2Config(**WORDS, n_embd=width, n_layer=2, n_head=2, n_positions=20))


class Labelled(nn.Module):
    """A code of what the trunk sees, and a label of the code."""

    def __init__(self, trunk: nn.Module, features: Callable[[Any], Tensor], width: int) -> None:
        super().__init__()
        self.trunk, self.features = trunk, features
        self.code, self.head = nn.Linear(width, 6), nn.Linear(3, 4)

    def forward(self, x: Tensor) -> None:
        mean, raw = self.code(self.features(self.trunk(x))).chunk(2, -1)
        z = mean + F.softplus(raw) * torch.randn_like(mean)
        dgm.target("label", Categorical(logits=self.head(z)))


class UNet(nn.Module):
    """Convolutions down and up again, attention between them, a skip over it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.GroupNorm(2, width), nn.SiLU())
        self.below = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.attention = nn.MultiheadAttention(2 * width, 2, dropout=0.1, batch_first=True)
        self.up = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.out = nn.Conv2d(2 * width, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        above = self.down(x)
        below = F.silu(self.below(above))
        rows = below.flatten(2).mT
        rows = rows + self.attention(rows, rows, rows, need_weights=False)[0]
        seen = rows.mT.unflatten(2, below.shape[2:])
        result: Tensor = self.out(torch.cat([self.up(seen), above], 1))
        return result


class Denoiser(nn.Module):
    """Two steps of one network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = UNet(width)

    def forward(self, x: Tensor) -> Tensor:
        mean, raw = self.net(x).chunk(2, 1)
        cleaner = mean + F.softplus(raw) * torch.randn_like(mean)
        mean, raw = self.net(cleaner).chunk(2, 1)
        image = torch.addcmul(mean, torch.randn_like(mean), F.softplus(raw))
        return image


def pooled(found: Any) -> Tensor:
    return found.pooler_output.flatten(1)


def states(found: Any) -> Tensor:
    return found.last_hidden_state


def mean_state(found: Any) -> Tensor:
    return found["last_hidden_state"].mean(1)


MODELS: dict[str, tuple[Callable[[int], nn.Module], Tensor]] = {
    "resnet": (lambda width: Labelled(resnet(width), pooled, 2 * width), IMAGES),
    "unet": (Denoiser, IMAGES),
    "bert": (lambda width: Labelled(bert(width), states, width), TOKENS),
    "gpt2": (lambda width: Labelled(gpt2(width), states, width), TOKENS),
    "vit": (lambda width: Labelled(vit(width), mean_state, width), IMAGES),
}

each = pytest.mark.parametrize(("build", "x"), MODELS.values(), ids=MODELS)


@each
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_the_compiled_form_is_the_same_program(build: Callable[[int], nn.Module], x: Tensor, training: bool):
    model = build(8).train(training)
    report = dgm.check(model, (x,))
    assert report.ok and report.gradients, report
    assert dict(report.sizes)["x.shape[0]"] != len(x)


@each
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_models_in_half_precision_are_replayed(build: Callable[[int], nn.Module], x: Tensor, dtype: torch.dtype):
    report = dgm.check(build(8).eval().to(dtype), (x.to(dtype) if x.is_floating_point() else x,))
    assert report.ok and report.gradients, report


@pytest.mark.parametrize("name", ["resnet", "bert", "vit", "unet"])
def test_networks_are_called_whole(name: str):
    build, x = MODELS[name]
    graph = dgm.trace(build(8).eval(), (x,))
    called = {node.target_name for node in graph if isinstance(node, Call) and node.target_name.startswith("self.")}
    assert called == ({"self.net"} if name == "unet" else {"self.trunk", "self.code", "self.head"})


@each
def test_a_small_one_is_trained_in_full_and_in_half_precision(build: Callable[[int], nn.Module], x: Tensor):
    student = build(4)
    loss = dgm.compile(dgm.pair(build(8), student, model_args=(x,)), latent_weight=0.5)
    noise, totals, gradients = loss.sample_noise(x), [], []
    for is_half in (False, True):
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=is_half):
            values = loss(x, noise=noise)
        student.zero_grad()
        values.total.backward()
        totals.append(values.total.double())
        gradients.append(torch.cat([p.grad.flatten() for p in student.parameters() if p.grad is not None]))
        assert values.latent.keys() | values.surrogate.keys() == set(loss_terms(build(4), x))
    torch.testing.assert_close(*totals, rtol=0.05, atol=0.01)
    assert F.cosine_similarity(*gradients, dim=0) > 0.9


def loss_terms(model: nn.Module, x: Tensor) -> list[str]:
    return [node.site.name for node in dgm.trace(model, (x,)).samples if node.site]


@each
def test_the_emitted_file_is_the_program_without_its_library(
    build: Callable[[int], nn.Module], x: Tensor, tmp_path: Path
):
    model = build(8).eval()
    compiled = dgm.compile(dgm.semi_auxiliary(dgm.trace(model, (x,))))
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    (tmp_path / "emitted.py").write_text(compiled.source)
    emitted = runpy.run_path(str(tmp_path / "emitted.py"))
    assert "import transformers" not in compiled.source and "import dgmcompile" not in compiled.source
    alone = emitted[type(model).__name__]()
    emitted["load_weights"](alone, tmp_path / "weights.pt")
    noise = compiled.sample_noise(x)
    ours, theirs = alone.eval()(x, noise=noise), compiled(x, noise=noise)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


@pytest.mark.parametrize("name", ["resnet", "bert", "vit", "unet"])
def test_graphs_of_fx_call_the_networks_themselves(name: str):
    build, x = MODELS[name]
    graph = dgm.semi_auxiliary(dgm.trace(build(8).eval(), (x,)))
    compiled, traced = dgm.compile(graph), dgm.to_fx(graph)
    noise = compiled.sample_noise(x)
    ours, theirs = compiled(x, noise=noise), traced(x, noise)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_a_cache_is_no_part_of_a_graph_of_fx():
    build, x = MODELS["gpt2"]
    with pytest.raises(dgm.CompileError, match="DynamicCache") as raised:
        dgm.to_fx(dgm.trace(build(8).eval(), (x,)))
    assert raised.value.diagnostics[0].code == "no-fx-module"


def test_a_package_that_asks_for_values_is_refused_where_it_is_called():
    """With a mask of words, transformers asks whether any is left out."""
    net = bert(8).eval()

    def model(words: Tensor, mask: Tensor) -> Tensor:
        hidden = net(words, attention_mask=mask).last_hidden_state
        z = hidden + torch.randn_like(hidden)
        return z.sin()

    with pytest.raises(dgm.CompileError) as found:
        dgm.trace(model, (TOKENS, (TOKENS > 3).long()))
    (problem,) = found.value.diagnostics
    line = model.__code__.co_firstlineno + 1
    assert problem.code == "value-branch" and f"test_networks.py:{line}" in problem.notes[-1]
