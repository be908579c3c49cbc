"""Deep models: autoencoders, deep exponential families, recurrent ones, flows, attention to a few objects."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import pyro.distributions.transforms as T
import torch
import torch.nn.functional as F
from pyro import poutine
from pyro.contrib.cevae import CEVAE
from pyro.distributions import constraints
from pyro.infer import config_enumerate
from pyro.nn import AutoRegressiveNN, DenseNN, PyroModule, PyroParam, PyroSample
from torch import Tensor, nn

from tests.corpus.entry import Entry
from tests.programs.program import bits, seeded, values

PIXELS, LATENT = 6, 2


class VAE(nn.Module):
    """As in the tutorial, with the modules registered by name on each call."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Sequential(nn.Linear(LATENT, 5), nn.Softplus(), nn.Linear(5, PIXELS), nn.Sigmoid())
        self.hidden = nn.Linear(PIXELS, 5)
        self.loc, self.log_scale = nn.Linear(5, LATENT), nn.Linear(5, LATENT)

    def model(self, x: Tensor) -> Tensor:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z_loc = torch.zeros(x.shape[0], LATENT, dtype=x.dtype, device=x.device)
            z_scale = torch.ones(x.shape[0], LATENT, dtype=x.dtype, device=x.device)
            z = pyro.sample("latent", dist.Normal(z_loc, z_scale).to_event(1))
            loc_img = self.decoder.forward(z)
            pyro.sample("obs", dist.Bernoulli(loc_img, validate_args=False).to_event(1), obs=x.reshape(-1, PIXELS))
            return loc_img

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.hidden)
        with pyro.plate("data", x.shape[0]):
            h = F.softplus(self.hidden(x.reshape(-1, PIXELS)))
            pyro.sample("latent", dist.Normal(self.loc(h), torch.exp(self.log_scale(h))).to_event(1))


class ConvolutionalVAE(PyroModule):
    """Images, and a likelihood of continuous values between nought and one."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Linear(3, 2 * 2 * 2), nn.Unflatten(1, (2, 2, 2)), nn.ReLU())
        self.conv = nn.ConvTranspose2d(2, 1, kernel_size=4, stride=2, padding=1)

    def forward(self, images: Tensor) -> None:
        with pyro.plate("batch", images.shape[0]):
            z = pyro.sample("z", dist.Normal(images.new_zeros(3), 1.0).to_event(1))
            logits = self.conv(self.up(z))
            pyro.sample("images", dist.ContinuousBernoulli(logits=logits).to_event(3), obs=images)


class SemiSupervisedVAE(nn.Module):
    """The digit and the style; the digit is known for some batches."""

    classes = 3

    def __init__(self, aux_weight: float = 46.0) -> None:
        super().__init__()
        self.aux_weight = aux_weight
        self.encoder_y = nn.Sequential(nn.Linear(PIXELS, 5), nn.Softplus(), nn.Linear(5, self.classes), nn.Softmax(-1))
        self.encoder_z = nn.Sequential(nn.Linear(PIXELS + self.classes, 5), nn.Softplus(), nn.Linear(5, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT + self.classes, 5), nn.Softplus(), nn.Linear(5, PIXELS))

    def model(self, xs: Tensor, ys: Tensor | None = None) -> Tensor:
        pyro.module("ss_vae", self)
        batch_size = xs.size(0)
        options = dict(dtype=xs.dtype, device=xs.device)
        with pyro.plate("data"):
            prior_loc = torch.zeros(batch_size, LATENT, **options)
            zs = pyro.sample("z", dist.Normal(prior_loc, torch.ones(batch_size, LATENT, **options)).to_event(1))
            alpha_prior = torch.ones(batch_size, self.classes, **options) / (1.0 * self.classes)
            ys = pyro.sample("y", dist.OneHotCategorical(alpha_prior), obs=ys)
            loc = torch.sigmoid(self.decoder(torch.cat([zs, ys], -1)))
            pyro.sample("x", dist.Bernoulli(loc, validate_args=False).to_event(1), obs=xs)
            return loc

    @config_enumerate(default="parallel")
    def guide(self, xs: Tensor, ys: Tensor | None = None) -> None:
        with pyro.plate("data"):
            if ys is None:
                ys = pyro.sample("y", dist.OneHotCategorical(self.encoder_y(xs)))
            loc, log_scale = self.encoder_z(torch.cat([xs, ys], -1)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    def model_classify(self, xs: Tensor, ys: Tensor | None = None) -> None:
        pyro.module("ss_vae", self)
        with pyro.plate("data"):
            if ys is not None:
                alpha = self.encoder_y(xs)
                with poutine.scale(scale=self.aux_weight):
                    pyro.sample("y_aux", dist.OneHotCategorical(alpha), obs=ys)


class ConditionalVAE(nn.Module):
    """Fills in the rest of an image of which a quarter is seen: -1 marks what is not.

    Args:
        by_index: are the pixels selected by a mask (as in Pyro's example), or is the likelihood masked?
    """

    def __init__(self, by_index: bool) -> None:
        super().__init__()
        self.by_index = by_index
        self.baseline = nn.Sequential(nn.Linear(PIXELS, 5), nn.ReLU(), nn.Linear(5, PIXELS), nn.Sigmoid())
        self.prior = nn.Sequential(nn.Linear(2 * PIXELS, 5), nn.ReLU(), nn.Linear(5, 2 * LATENT))
        self.generation = nn.Sequential(nn.Linear(LATENT, 5), nn.ReLU(), nn.Linear(5, PIXELS), nn.Sigmoid())

    def model(self, xs: Tensor, ys: Tensor | None = None) -> Tensor:
        pyro.module("generation_net", self)
        with pyro.plate("data"):
            with torch.no_grad():
                y_hat = self.baseline(xs)
            loc, log_scale = self.prior(torch.cat([xs, y_hat], -1)).chunk(2, -1)
            zs = pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))
            loc = self.generation(zs)
            if ys is None:
                pyro.deterministic("y", loc.detach())
            elif self.by_index:
                mask_loc = loc[xs == -1].view(len(xs), -1)
                mask_ys = ys[xs == -1].view(len(xs), -1)
                pyro.sample("y", dist.Bernoulli(mask_loc, validate_args=False).to_event(1), obs=mask_ys)
            else:
                pyro.sample("y", dist.Bernoulli(loc).mask(xs == -1).to_event(1), obs=ys)
            return loc


class Emitter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin_z_to_hidden = nn.Linear(LATENT, 4)
        self.lin_hidden_to_input = nn.Linear(4, 3)
        self.relu = nn.ReLU()

    def forward(self, z_t: Tensor) -> Tensor:
        return torch.sigmoid(self.lin_hidden_to_input(self.relu(self.lin_z_to_hidden(z_t))))


class GatedTransition(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(LATENT, 4), nn.ReLU(), nn.Linear(4, LATENT), nn.Sigmoid())
        self.proposed_mean = nn.Sequential(nn.Linear(LATENT, 4), nn.ReLU(), nn.Linear(4, LATENT))
        self.lin_sig, self.lin_z_to_loc = nn.Linear(LATENT, LATENT), nn.Linear(LATENT, LATENT)
        self.lin_z_to_loc.weight.data = torch.eye(LATENT)
        self.lin_z_to_loc.bias.data = torch.zeros(LATENT)

    def forward(self, z_t_1: Tensor) -> tuple[Tensor, Tensor]:
        gate, proposed = self.gate(z_t_1), self.proposed_mean(z_t_1)
        loc = (1 - gate) * self.lin_z_to_loc(z_t_1) + gate * proposed
        return loc, F.softplus(self.lin_sig(F.relu(proposed)))


class Combiner(nn.Module):
    def __init__(self, rnn: int) -> None:
        super().__init__()
        self.lin_z_to_hidden = nn.Linear(LATENT, rnn)
        self.lin_loc, self.lin_scale = nn.Linear(rnn, LATENT), nn.Linear(rnn, LATENT)

    def forward(self, z_t_1: Tensor, h_rnn: Tensor) -> tuple[Tensor, Tensor]:
        h = 0.5 * (torch.tanh(self.lin_z_to_hidden(z_t_1)) + h_rnn)
        return self.lin_loc(h), F.softplus(self.lin_scale(h))


class DMM(nn.Module):
    """The deep Markov model of padded sequences, and its guide with inverse autoregressive flows."""

    def __init__(self, flows: int = 0) -> None:
        super().__init__()
        self.emitter, self.trans, self.combiner = Emitter(), GatedTransition(), Combiner(4)
        self.rnn = nn.RNN(3, 4, nonlinearity="relu", batch_first=True)
        self.iafs = nn.ModuleList(T.affine_autoregressive(LATENT, hidden_dims=[5]) for _ in range(flows))
        self.z_0 = nn.Parameter(torch.zeros(LATENT))
        self.z_q_0 = nn.Parameter(torch.zeros(LATENT))
        self.h_0 = nn.Parameter(torch.zeros(1, 1, 4))

    def model(self, mini_batch: Tensor, mini_batch_mask: Tensor, annealing_factor: float = 1.0) -> None:
        t_max = mini_batch.size(1)
        pyro.module("dmm", self)
        z_prev = self.z_0.expand(mini_batch.size(0), self.z_0.size(0))
        with pyro.plate("z_minibatch", len(mini_batch)):
            for t in pyro.markov(range(1, t_max + 1)):
                z_loc, z_scale = self.trans(z_prev)
                with poutine.scale(scale=annealing_factor):
                    law = dist.Normal(z_loc, z_scale).mask(mini_batch_mask[:, t - 1 : t]).to_event(1)
                    z_t = pyro.sample(f"z_{t}", law)
                emission = self.emitter(z_t)
                pyro.sample(
                    f"obs_x_{t}",
                    dist.Bernoulli(emission).mask(mini_batch_mask[:, t - 1 : t]).to_event(1),
                    obs=mini_batch[:, t - 1, :],
                )
                z_prev = z_t

    def guide(self, reversed_batch: Tensor, mask: Tensor, annealing_factor: float = 1.0) -> None:
        pyro.module("dmm", self)
        h_0 = self.h_0.expand(1, reversed_batch.size(0), self.rnn.hidden_size).contiguous()
        rnn_output, _ = self.rnn(reversed_batch, h_0)
        rnn_output = torch.flip(rnn_output, [1])
        z_prev = self.z_q_0.expand(reversed_batch.size(0), self.z_q_0.size(0))
        with pyro.plate("z_minibatch", len(reversed_batch)):
            for t in pyro.markov(range(1, reversed_batch.size(1) + 1)):
                z_loc, z_scale = self.combiner(z_prev, rnn_output[:, t - 1, :])
                if len(self.iafs) > 0:
                    z_dist: Any = dist.TransformedDistribution(dist.Normal(z_loc, z_scale), list(self.iafs))
                    with poutine.scale(scale=annealing_factor), poutine.mask(mask=mask[:, t - 1]):
                        z_t = pyro.sample(f"z_{t}", z_dist)
                else:
                    z_dist = dist.Normal(z_loc, z_scale).mask(mask[:, t - 1 : t]).to_event(1)
                    with poutine.scale(scale=annealing_factor):
                        z_t = pyro.sample(f"z_{t}", z_dist)
                z_prev = z_t


class SparseGammaDEF:
    """A deep exponential family of gammas, three layers over counts of pixels."""

    def __init__(self, top: int, mid: int, bottom: int) -> None:
        self.top, self.mid, self.bottom = top, mid, bottom
        self.alpha_z, self.beta_z = torch.tensor(0.1), torch.tensor(0.1)
        self.alpha_w, self.beta_w = torch.tensor(0.1), torch.tensor(0.3)

    def model(self, x: Tensor) -> None:
        size, pixels = x.size(0), x.size(1)
        with pyro.plate("w_top_plate", self.top * self.mid):
            w_top = pyro.sample("w_top", dist.Gamma(self.alpha_w, self.beta_w))
        with pyro.plate("w_mid_plate", self.mid * self.bottom):
            w_mid = pyro.sample("w_mid", dist.Gamma(self.alpha_w, self.beta_w))
        with pyro.plate("w_bottom_plate", self.bottom * pixels):
            w_bottom = pyro.sample("w_bottom", dist.Gamma(self.alpha_w, self.beta_w))
        with pyro.plate("data", size):
            z_top = pyro.sample("z_top", dist.Gamma(self.alpha_z, self.beta_z).expand([self.top]).to_event(1))
            w_top = w_top.reshape(self.top, self.mid)
            mean_mid = torch.matmul(z_top, w_top)
            z_mid = pyro.sample("z_mid", dist.Gamma(self.alpha_z, self.beta_z / mean_mid).to_event(1))
            w_mid = w_mid.reshape(self.mid, self.bottom)
            mean_bottom = torch.matmul(z_mid, w_mid)
            z_bottom = pyro.sample("z_bottom", dist.Gamma(self.alpha_z, self.beta_z / mean_bottom).to_event(1))
            w_bottom = w_bottom.reshape(self.bottom, pixels)
            pyro.sample("obs", dist.Poisson(torch.matmul(z_bottom, w_bottom)).to_event(1), obs=x)


class BayesianNetwork(PyroModule):
    """Weights of both layers are random, and so is the precision."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = PyroModule[nn.Linear](inputs, hidden)
        self.fc1.weight = PyroSample(dist.Normal(0.0, 1.0).expand([hidden, inputs]).to_event(2))
        self.fc1.bias = PyroSample(dist.Normal(0.0, 1.0).expand([hidden]).to_event(1))
        self.fc2 = PyroModule[nn.Linear](hidden, 1)
        self.fc2.weight = PyroSample(dist.Normal(0.0, 1.0).expand([1, hidden]).to_event(2))
        self.fc2.bias = PyroSample(dist.Normal(0.0, 1.0).expand([1]).to_event(1))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        mean = self.fc2(torch.tanh(self.fc1(x))).squeeze(-1)
        precision = pyro.sample("precision", dist.Gamma(3.0, 1.0))
        with pyro.plate("data", x.shape[0]):
            pyro.sample("obs", dist.Normal(mean, precision.rsqrt()), obs=y)
        return mean


def hidden_layers(x: Tensor, y: Tensor) -> None:
    """The layer's *output* is drawn, by a distribution of pyro.contrib."""
    from pyro.contrib.bnn import HiddenLayer

    a_mean = pyro.param("a_mean", values(2, 3))
    a_scale = pyro.param("a_scale", torch.ones(2, 3), constraint=constraints.positive)
    h = pyro.sample("h", HiddenLayer(x, a_mean, a_scale, non_linearity=torch.tanh, KL_factor=0.5))
    pyro.sample("y", dist.Bernoulli(logits=h.sum(-1)).to_event(1), obs=y)


class Where(NamedTuple):
    image: Tensor
    present: Tensor


class AIR(nn.Module):
    """Attend, infer, repeat, with at most ``steps`` objects: those that are not there are masked out.

    Eslami et al. 2016, arXiv:1603.08575.
    """

    def __init__(self, steps: int, size: int, window: int) -> None:
        super().__init__()
        self.steps, self.size, self.window = steps, size, window
        self.decode = nn.Sequential(nn.Linear(LATENT, 5), nn.ReLU(), nn.Linear(5, window**2), nn.Sigmoid())
        self.register_buffer("where_loc", torch.tensor([3.0, 0.0, 0.0]))
        self.register_buffer("where_scale", torch.tensor([0.1, 1.0, 1.0]))

    def step(self, t: int, n: int, prev: Where) -> Where:
        present = pyro.sample(f"z_pres_{t}", dist.Bernoulli(0.5 * prev.present).to_event(1))
        with poutine.mask(mask=present.squeeze(-1).bool()):
            where = pyro.sample(f"z_where_{t}", dist.Normal(self.where_loc.expand(n, 3), self.where_scale).to_event(1))
            what = pyro.sample(f"z_what_{t}", dist.Normal(where.new_zeros(n, LATENT), 1.0).to_event(1))
        drawn = self.into_image(where, self.decode(what))
        return Where(prev.image + drawn * present.view(-1, 1, 1), present)

    def into_image(self, where: Tensor, windows: Tensor) -> Tensor:
        n = windows.shape[0]
        out = torch.cat((where.new_zeros(n, 1), where), 1)
        theta = torch.index_select(out, 1, torch.tensor([1, 0, 2, 0, 1, 3])).view(n, 2, 3)
        grid = F.affine_grid(theta, [n, 1, self.size, self.size], align_corners=False)
        patches = windows.view(n, 1, self.window, self.window)
        return F.grid_sample(patches, grid, align_corners=False).view(n, self.size, self.size)

    def model(self, data: Tensor) -> None:
        n = data.shape[0]
        pyro.module("decode", self.decode)
        with pyro.plate("data", n):
            state = Where(data.new_zeros(n, self.size, self.size), data.new_ones(n, 1))
            for t in range(self.steps):
                state = self.step(t, n, state)
            pyro.sample("obs", dist.Normal(state.image, 0.3).to_event(2), obs=data)


class VariableSteps(AIR):
    """The prior of the tutorial: as many steps as a coin says, one image."""

    def model(self, data: Tensor) -> None:
        state, t = Where(data.new_zeros(1, self.size, self.size), data.new_ones(1, 1)), 0
        while True:
            state = self.step(t, 1, state)
            t += 1
            if not state.present:
                break
        pyro.sample("obs", dist.Normal(state.image, 0.3).to_event(3), obs=data)


class LadderVAE(PyroModule):
    """Three layers of latents; parameters are constrained attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.nets = nn.ModuleList([DenseNN(LATENT, [4], param_dims=[LATENT, LATENT]) for _ in range(2)])
        self.out = nn.Linear(LATENT, PIXELS)
        self.scale = PyroParam(torch.tensor(0.4), constraint=constraints.positive)

    def forward(self, x: Tensor) -> None:
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z_top", dist.Normal(torch.zeros(x.shape[0], LATENT), 1.0).to_event(1))
            for i, net in enumerate(self.nets):
                loc, log_scale = net(z)
                z = pyro.sample(f"z_{i}", dist.Normal(loc, log_scale.exp()).to_event(1))
            pyro.sample("x", dist.Laplace(self.out(z), self.scale).to_event(1), obs=x)


class SingleCell(PyroModule):
    """Counts of genes in cells, of which some are annotated (scANVI); networks give all parameters."""

    def __init__(self, genes: int, labels: int) -> None:
        super().__init__()
        self.labels, self.genes = labels, genes
        self.inverse_dispersion = PyroParam(10.0 * torch.ones(genes), constraints.positive)
        self.z2 = nn.Sequential(nn.Linear(LATENT + labels, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2 * LATENT))
        self.x = nn.Sequential(nn.Linear(LATENT, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2 * genes))

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        theta = self.inverse_dispersion
        with pyro.plate("batch", len(x)), poutine.scale(scale=1.0 / self.genes):
            z1 = pyro.sample("z1", dist.Normal(0, x.new_ones(LATENT)).to_event(1))
            y = pyro.sample("y", dist.OneHotCategorical(logits=x.new_zeros(self.labels)), obs=y)
            z2_loc, z2_scale = self.z2(torch.cat([z1, y], -1)).chunk(2, -1)
            z2 = pyro.sample("z2", dist.Normal(z2_loc, F.softplus(z2_scale) + 1e-4).to_event(1))
            library = pyro.sample("l", dist.LogNormal(3.0, 0.5 * x.new_ones(1)).to_event(1))
            gate_logits, mu = self.x(z2).chunk(2, -1)
            mu = F.softmax(mu, -1)
            logits = (library * mu + 1e-4).log() - (theta + 1e-4).log()
            law = dist.ZeroInflatedNegativeBinomial(gate_logits=gate_logits, total_count=theta, logits=logits)
            pyro.sample("x", law.to_event(1), obs=x)


class FlowDensity(nn.Module):
    """Normalising flows as a density: no latents, all is in the target's transforms."""

    def __init__(self) -> None:
        super().__init__()
        self.spline = T.spline_coupling(2, hidden_dims=[4], count_bins=3)
        self.iaf = T.AffineAutoregressive(AutoRegressiveNN(2, [4]), stable=True)

    def model(self, x: Tensor) -> None:
        flow = dist.TransformedDistribution(dist.Normal(torch.zeros(2), 1.0).to_event(1), [self.spline, self.iaf])
        with pyro.plate("data", len(x)):
            pyro.sample("x", flow, obs=x)


class ConditionalFlow(nn.Module):
    """A flow of which the parameters are a network of a latent."""

    def __init__(self) -> None:
        super().__init__()
        self.transform = T.conditional_planar(2, context_dim=1, hidden_dims=[4])

    def model(self, x: Tensor) -> None:
        base = dist.Normal(torch.zeros(2), torch.ones(2)).to_event(1)
        with pyro.plate("data", len(x)):
            c = pyro.sample("c", dist.Normal(torch.zeros(1), 1.0).to_event(1))
            z = pyro.sample("z", dist.ConditionalTransformedDistribution(base, [self.transform]).condition(c))
            pyro.sample("x", dist.Normal(z, 0.1).to_event(1), obs=x)


class NeuralProcess(nn.Module):
    """A latent function: the context set is encoded and averaged, the target set is predicted."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(1 + LATENT, 4), nn.ReLU(), nn.Linear(4, 2))

    def model(self, x_context: Tensor, y_context: Tensor, x: Tensor, y: Tensor) -> None:
        loc, scale = self.encoder(torch.stack([x_context, y_context], -1)).mean(0).chunk(2, -1)
        z = pyro.sample("z", dist.Normal(loc, 0.1 + torch.sigmoid(scale)).to_event(1))
        inputs = torch.cat([x.unsqueeze(-1), z.expand(x.shape[0], LATENT)], -1)
        out, raw = self.decoder(inputs).unbind(-1)
        with pyro.plate("targets", x.shape[0]):
            pyro.sample("y", dist.Normal(out, 0.1 + F.softplus(raw)), obs=y)


class SigmoidBeliefNet(nn.Module):
    """Binary layers, relaxed so that there is a gradient."""

    def __init__(self, law: Callable[..., Any]) -> None:
        super().__init__()
        self.law = law
        self.middle, self.bottom = nn.Linear(3, 4), nn.Linear(4, PIXELS)

    def forward(self, x: Tensor) -> None:
        temperature = torch.tensor(0.5)
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", self.law(temperature, logits=torch.zeros(3)).to_event(1))
            g = pyro.sample("g", self.law(temperature, logits=self.middle(h)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.bottom(g)).to_event(1), obs=x)


class LatentODE(nn.Module):
    """Euler steps of a network's field from a latent start, with forty evaluations in a Python loop."""

    def __init__(self) -> None:
        super().__init__()
        self.field = nn.Sequential(nn.Linear(LATENT, 4), nn.Tanh(), nn.Linear(4, LATENT))
        self.out = nn.Linear(LATENT, 1)

    def model(self, series: Tensor, dt: float = 0.1) -> None:
        with pyro.plate("series", len(series)):
            z = pyro.sample("z0", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
            path = []
            for step in range(4 * series.shape[1]):
                z = z + dt * self.field(z)
                if step % 4 == 3:
                    path.append(self.out(z).squeeze(-1))
            pyro.sample("y", dist.Normal(torch.stack(path, -1), 0.1).to_event(1), obs=series)


class DropoutVAE(nn.Module):
    """Functional dropout: random numbers of which no site knows."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.Linear(LATENT, PIXELS)

    def model(self, x: Tensor) -> None:
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(LATENT), 1.0).to_event(1))
            logits = self.decoder(F.dropout(z, 0.2))
            pyro.sample("x", dist.Bernoulli(logits=logits).to_event(1), obs=x)


CEVAE_MODEL = seeded(lambda: CEVAE(feature_dim=2, outcome_dist="normal", latent_dim=2, hidden_dim=4, num_layers=2))
LABELS = torch.eye(3)[torch.tensor([0, 2, 1, 1])]
IMAGES = bits(4, PIXELS)
SEEN = torch.cat([IMAGES[:, :2], torch.full((4, 4), -1.0)], 1)
SONGS, MASK = bits(3, 3, 3), torch.tensor([[True, True, True], [True, True, False], [True, False, False]])
SEMI = seeded(SemiSupervisedVAE)
GENES = torch.tensor([[3.0, 0.0, 1.0], [0.0, 0.0, 7.0], [2.0, 2.0, 0.0], [1.0, 5.0, 0.0]])

ENTRIES = (
    Entry(seeded(VAE).model, (IMAGES,), sites=(1, 1), name="VAE.model", note="the tutorial's"),
    Entry(seeded(VAE).guide, (IMAGES,), targets="all", sites=(0, 1), name="VAE.guide", note="its guide"),
    Entry(
        seeded(ConvolutionalVAE), (torch.rand(3, 1, 4, 4),), sites=(1, 1), name="ConvolutionalVAE", note="images, ConvT"
    ),
    Entry(SEMI.model, (IMAGES, LABELS), sites=(1, 2), name="SemiSupervisedVAE with labels", note="labels are targets"),
    Entry(
        SEMI.model,
        (IMAGES,),
        sites=(2, 1),
        name="SemiSupervisedVAE without labels",
        note="the same, labels are latents",
    ),
    Entry(
        SEMI.guide,
        (IMAGES,),
        targets="all",
        sites=(0, 2),
        name="SemiSupervisedVAE.guide",
        note="a guide that enumerates",
    ),
    Entry(
        SEMI.model_classify,
        (IMAGES, LABELS),
        sites=(0, 1),
        name="SemiSupervisedVAE auxiliary loss",
        note="a scaled target",
    ),
    Entry(
        seeded(lambda: ConditionalVAE(by_index=True)).model,
        (SEEN, IMAGES),
        expect="value-shape",
        name="ConditionalVAE by index",
        note="the example: selects pixels by the values of an input",
    ),
    Entry(
        seeded(lambda: ConditionalVAE(by_index=False)).model,
        (SEEN, IMAGES),
        sites=(1, 1),
        name="ConditionalVAE by mask",
        note="the same with a masked likelihood",
    ),
    Entry(seeded(DMM).model, (SONGS, MASK), sites=(3, 3), name="DMM.model", note="masks, markov, a transition module"),
    Entry(
        seeded(DMM).model,
        (SONGS, MASK.float()),
        sites=(3, 3),
        name="DMM.model with a mask of numbers",
        note="as the example's loader makes it",
    ),
    Entry(
        seeded(DMM).guide, (SONGS, MASK), targets="all", sites=(0, 3), name="DMM.guide", note="reads the data backwards"
    ),
    Entry(
        seeded(lambda: DMM(flows=2)).guide,
        (SONGS, MASK),
        targets="all",
        sites=(0, 3),
        name="DMM.guide with flows",
        note="inverse autoregressive flows at every step",
    ),
    Entry(
        SparseGammaDEF(4, 3, 2).model,
        (torch.tensor([[1.0, 0.0, 3.0], [0.0, 2.0, 0.0]]),),
        sites=(6, 1),
        name="SparseGammaDEF.model",
        note="three layers of gammas",
    ),
    Entry(
        seeded(lambda: BayesianNetwork(2, 3)),
        (values(4, 2), values(4)),
        sites=(5, 1),
        name="BayesianNetwork",
        note="random weights",
    ),
    Entry(
        hidden_layers,
        (values(4, 2), bits(4)),
        expect="no-law",
        note="a latent of a distribution that is not Pyro's own",
    ),
    Entry(
        seeded(lambda: AIR(2, 4, 3)).model,
        (torch.rand(3, 4, 4),),
        sites=(6, 1),
        name="AIR.model",
        note="a fixed number of steps, masked by a latent; grid_sample",
    ),
    Entry(
        seeded(lambda: VariableSteps(2, 4, 3)).model,
        (torch.rand(1, 4, 4),),
        expect="value-branch",
        name="AIR with as many steps as it takes",
        note="the number of sites is a random variable",
    ),
    Entry(seeded(LadderVAE), (IMAGES,), sites=(3, 1), name="LadderVAE", note="pyro.nn.DenseNN, PyroParam"),
    Entry(
        seeded(lambda: SingleCell(3, 3)).model,
        (GENES, LABELS),
        sites=(3, 2),
        name="SingleCell.model",
        note="scANVI: batch normalisation, zero-inflated counts, a scale",
    ),
    Entry(
        seeded(FlowDensity).model, (values(4, 2),), sites=(0, 1), name="FlowDensity.model", note="flows as likelihood"
    ),
    Entry(
        seeded(ConditionalFlow).model,
        (values(4, 2),),
        sites=(2, 1),
        name="ConditionalFlow.model",
        note="a latent whose transform depends on a latent",
    ),
    Entry(
        seeded(NeuralProcess).model,
        (values(3), values(3, seed=1), values(5, seed=2), values(5, seed=3)),
        sites=(1, 1),
        name="NeuralProcess.model",
        note="two sets of different length",
    ),
    Entry(
        seeded(lambda: SigmoidBeliefNet(dist.RelaxedBernoulli)),
        (IMAGES,),
        sites=(2, 1),
        name="SigmoidBeliefNet relaxed",
        note="a concrete distribution; the class is an attribute",
    ),
    Entry(
        seeded(lambda: SigmoidBeliefNet(dist.RelaxedBernoulliStraightThrough)),
        (IMAGES,),
        sites=(2, 1),
        name="SigmoidBeliefNet straight-through",
        note="straight-through by the user's own choice",
    ),
    Entry(
        seeded(LatentODE).model, (values(3, 5),), sites=(1, 1), name="LatentODE.model", note="twenty calls of one net"
    ),
    Entry(seeded(DropoutVAE).model, (IMAGES,), expect="stray-random", name="DropoutVAE.model", note="F.dropout"),
    Entry(CEVAE_MODEL.model, (values(4, 2),), sites=(3, 1), name="CEVAE.model", note="pyro.contrib.cevae"),
    Entry(
        CEVAE_MODEL.guide,
        (values(4, 2),),
        targets="all",
        sites=(0, 3),
        name="CEVAE.guide",
        note="pyro.contrib.cevae; the treatment chooses a network",
    ),
)
