"""Dropout of plain PyTorch: a call that draws by itself, or noise like other noise."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import dgmcompile as dgm
from dgmcompile.ir.graph import Noise
from tests.programs.program import values


def test_dropout_is_a_call_that_draws_by_itself():
    net = nn.Linear(3, 2)

    def model(x: Tensor) -> Tensor:
        return net(F.dropout(x, 0.5))

    graph = dgm.trace(model, (values(5, 3),))
    assert [warning.code for warning in graph.warnings if warning.code == "random-call"]
    compiled = dgm.compile(graph)
    assert not torch.equal(compiled(values(5, 3))["output"], compiled(values(5, 3))["output"])


def test_dropout_of_two_programs_is_shared():
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(3, 8), nn.Sequential(nn.ReLU(), nn.Dropout(0.3)), nn.Linear(8, 4))
    student = nn.Sequential(nn.Linear(3, 8), nn.Sequential(nn.ReLU(), nn.Dropout(0.3)), nn.Linear(8, 4))
    student.load_state_dict(teacher.state_dict())
    x = values(5, 3)
    pair = dgm.pair(teacher, student, model_args=(x,), share_dropout=True)
    assert "lone-noise" not in [warning.code for warning in pair.warnings]
    assert dgm.compile(pair)(x).total.item() == 0
    assert dgm.check(teacher, (x,), share_dropout=True).ok


class Dropping(nn.Module):
    """Every dropout that is taken apart, in its place and as a function."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.below, self.above = nn.Linear(3, 4), nn.Sequential(nn.Linear(4, hidden), nn.Linear(hidden, 2))
        self.drop, self.alpha, self.channels = nn.Dropout(0.3), nn.AlphaDropout(0.2), nn.Dropout1d(0.4, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = F.feature_alpha_dropout(self.drop(self.below(x)), 0.1, training=self.training)
        h = self.alpha(F.dropout(h, 0.5, training=self.training, inplace=True))
        h = self.channels(h[..., None].expand(-1, -1, 2).clone()).mean(-1)
        z = h + torch.randn_like(h)
        return self.above(z)


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("share_dropout", [True, False], ids=["shared", "apart"])
def test_dropout_is_replayed(training: bool, share_dropout: bool):
    report = dgm.check(Dropping(4).train(training), (values(5, 3),), share_dropout=share_dropout)
    assert report.ok and report.gradients, str(report)


class InPlace(nn.Module):
    """Dropout that writes into its argument, by a module or a function."""

    def __init__(self, by_module: bool) -> None:
        super().__init__()
        self.below, self.above = nn.Linear(3, 4), nn.Linear(4, 2)
        self.drop = nn.Dropout(0.5, inplace=True) if by_module else None

    def forward(self, x: Tensor) -> Tensor:
        h = self.below(x)
        if self.drop is None:
            F.dropout(h, 0.5, training=True, inplace=True)
        else:
            self.drop(h)
        y = self.above(h) + torch.randn(len(x), 2)
        return y


def test_a_dropout_that_writes_into_its_argument_keeps_its_mode():
    x = values(5, 3)
    pair = dgm.pair(InPlace(True), InPlace(True), model_args=(x,))
    assert [warning.code for warning in pair.warnings] == ["random-module"]
    loss = dgm.compile(pair)
    noise = loss.sample_noise(x)
    assert len({float(loss.eval()(x, noise=noise).total.detach()) for _ in range(4)}) == 1
    assert len({float(loss.train()(x, noise=noise).total.detach()) for _ in range(4)}) > 1


@pytest.mark.parametrize("by_module", [True, False])
@pytest.mark.parametrize("exported", [True, False], ids=["exported", "module"])
@pytest.mark.parametrize("share_dropout", [True, False], ids=["shared", "apart"])
def test_a_dropout_that_writes_into_its_argument_is_replayed(by_module: bool, exported: bool, share_dropout: bool):
    model, x = InPlace(by_module), values(5, 3)
    program = torch.export.export(model, (x,)) if exported else model
    graph = dgm.trace(program, (x,), share_dropout=share_dropout)
    assert len([node for node in graph if isinstance(node, Noise)]) == share_dropout
    report = dgm.check(program, (x,), share_dropout=share_dropout)
    assert report.ok and report.gradients, str(report)


@pytest.mark.parametrize("training", [True, False])
def test_attention_that_is_called_whole_keeps_its_mode(training: bool):
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: Tensor) -> Tensor:
            y = torch.normal(self.net(x), 1.0)
            return y

    graph = dgm.trace(Model().train(training), (values(5, 3, 8),))
    assert [warning.code for warning in graph.warnings] == (["random-module"] if training else [])


class Recurrent(nn.Module):
    """A recurrent network with dropout between its layers, called whole."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.below, self.above = kind(3, 4, num_layers=2, dropout=0.5, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        loc = self.above(self.below(x)[0])
        z = loc + 0.3 * torch.randn_like(loc)
        return z


@pytest.mark.filterwarnings("ignore:The tensor attributes self.below._flat_weights")  # by torch.export
@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
@pytest.mark.parametrize("exported", [True, False], ids=["exported", "module"])
def test_dropout_between_recurrent_layers_is_replayed(kind: type[nn.RNNBase], exported: bool):
    model, x = Recurrent(kind), values(2, 5, 3)
    report = dgm.check(torch.export.export(model, (x,)) if exported else model, (x,))
    assert report.ok and report.gradients, str(report)


def test_dropout_is_shared_where_that_is_asked_for():
    x = values(5, 3)
    teacher, student = (dgm.trace(Dropping(hidden), (x,), share_dropout=True) for hidden in (8, 4))
    assert len([node for node in teacher if isinstance(node, Noise)]) == 5
    loss = dgm.compile(dgm.pair(teacher, student))
    noise = loss.sample_noise(x)
    assert len(noise) == 6
    assert loss(x, noise=noise).total == loss(x, noise=noise).total != loss(x).total
    apart = dgm.compile(dgm.pair(*(dgm.trace(Dropping(hidden), (x,)) for hidden in (8, 4))))
    assert apart.sample_noise(x).keys() == {"z_noise"}


@pytest.mark.parametrize(
    "drop",
    [
        lambda x: F.dropout(x, 0.3),
        lambda x: F.dropout1d(x, 0.3),
        lambda x: F.dropout2d(x[..., None], 0.3),
        lambda x: F.dropout3d(x[..., None, None], 0.3),
        lambda x: F.alpha_dropout(x, 0.3, training=True),
        lambda x: F.feature_alpha_dropout(x, 0.3, training=True),
        lambda x: F.dropout(x, 1.0),
        lambda x: F.alpha_dropout(x, 1.0, training=True),
    ],
)
def test_shared_dropout_makes_of_its_noise_what_dropout_makes(drop: Callable[[Tensor], Tensor]):
    """The same values, as often, in the same places of each channel."""

    def model(x: Tensor) -> Tensor:
        return drop(x)

    x = torch.full((2000, 2, 3), 2.0)
    ours = dgm.compile(dgm.semi_auxiliary(dgm.trace(model, (x,), share_dropout=True)))(x)["output"].flatten(2)
    theirs = drop(x).flatten(2)
    for found, wanted in zip(summary(ours), summary(theirs), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=0.05)


def summary(dropped: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which values there are, how often, and how often a whole channel has one."""
    values, counts = dropped.unique(return_counts=True)
    return values, counts / dropped.numel(), (dropped == dropped[..., :1]).all(-1).float().mean()


@pytest.mark.parametrize(("drop", "shape"), [(nn.Dropout1d(), (4, 6)), (nn.Dropout3d(), (3, 2, 2, 2))], ids=str)
def test_channels_of_an_input_without_batch_are_dropped_whole(drop: nn.Module, shape: tuple[int, ...]):
    def model(x: Tensor) -> Tensor:
        return drop(x)

    compiled = dgm.compile(dgm.trace(model, (torch.ones(shape),), share_dropout=True))
    (noise,) = compiled.sample_noise(torch.ones(shape)).values()
    assert noise.shape == (shape[0], *(1 for _ in shape[1:]))
    dropped = compiled(torch.ones(shape))["output"].flatten(1)
    assert set(dropped.unique().tolist()) <= {0.0, 2.0} and bool((dropped == dropped[:, :1]).all())
