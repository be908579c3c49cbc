"""Animals that are caught again, counted, or overlooked."""

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from tests.corpus.entry import Entry
from tests.programs.program import bits, values

ENUMERATED = {"enumerate": "parallel"}


def cjs_1(capture_history: Tensor, sex: Tensor | None = None) -> None:
    """Cormack, Jolly and Seber: survival and recapture are the same for all animals and years."""
    n, years = capture_history.shape
    phi = pyro.sample("phi", dist.Uniform(0.0, 1.0))
    rho = pyro.sample("rho", dist.Uniform(0.0, 1.0))
    with pyro.plate("animals", n, dim=-1):
        z = torch.ones(n)
        first_capture_mask = torch.zeros(n).bool()
        for t in pyro.markov(range(years)):
            with poutine.mask(mask=first_capture_mask):
                mu_z_t = first_capture_mask.float() * phi * z + (1 - first_capture_mask.float())
                z = pyro.sample(f"z_{t}", dist.Bernoulli(mu_z_t), infer=ENUMERATED)
                mu_y_t = rho * z
                pyro.sample(f"y_{t}", dist.Bernoulli(mu_y_t), obs=capture_history[:, t])
            first_capture_mask = first_capture_mask | capture_history[:, t].bool()


def cjs_1_in_place(capture_history: Tensor) -> None:
    """As in Pyro's example, where all sites hold one mask, which is written after each year."""
    n, years = capture_history.shape
    phi = pyro.sample("phi", dist.Uniform(0.0, 1.0))
    rho = pyro.sample("rho", dist.Uniform(0.0, 1.0))
    with pyro.plate("animals", n, dim=-1):
        z = torch.ones(n)
        first_capture_mask = torch.zeros(n).bool()
        for t in pyro.markov(range(years)):
            with poutine.mask(mask=first_capture_mask):
                mu_z_t = first_capture_mask.float() * phi * z + (1 - first_capture_mask.float())
                z = pyro.sample(f"z_{t}", dist.Bernoulli(mu_z_t), infer=ENUMERATED)
                mu_y_t = rho * z
                pyro.sample(f"y_{t}", dist.Bernoulli(mu_y_t), obs=capture_history[:, t])
            first_capture_mask |= capture_history[:, t].bool()


def cjs_2(capture_history: Tensor, sex: Tensor | None = None) -> None:
    """Survival varies with the year, a fixed effect; the plate is entered again and again."""
    n, years = capture_history.shape
    rho = pyro.sample("rho", dist.Uniform(0.0, 1.0))
    z = torch.ones(n)
    first_capture_mask = torch.zeros(n).bool()
    animals_plate = pyro.plate("animals", n, dim=-1)
    for t in pyro.markov(range(years)):
        phi_t = pyro.sample(f"phi_{t}", dist.Uniform(0.0, 1.0)) if t > 0 else 1.0
        with animals_plate, poutine.mask(mask=first_capture_mask):
            mu_z_t = first_capture_mask.float() * phi_t * z + (1 - first_capture_mask.float())
            z = pyro.sample(f"z_{t}", dist.Bernoulli(mu_z_t), infer=ENUMERATED)
            pyro.sample(f"y_{t}", dist.Bernoulli(rho * z), obs=capture_history[:, t])
        first_capture_mask = first_capture_mask | capture_history[:, t].bool()


def cjs_3(capture_history: Tensor, sex: Tensor | None = None) -> None:
    """The years are random effects around a mean in logits."""

    def logit(p: Tensor) -> Tensor:
        return torch.log(p) - torch.log1p(-p)

    n, years = capture_history.shape
    phi_logit_mean = logit(pyro.sample("phi_mean", dist.Uniform(0.0, 1.0)))
    phi_sigma = pyro.sample("phi_sigma", dist.Uniform(0.0, 10.0))
    rho = pyro.sample("rho", dist.Uniform(0.0, 1.0))
    z = torch.ones(n)
    seen = torch.zeros(n).bool()
    animals_plate = pyro.plate("animals", n, dim=-1)
    for t in pyro.markov(range(years)):
        phi_logit = (
            pyro.sample(f"phi_logit_{t}", dist.Normal(phi_logit_mean, phi_sigma)) if t > 0 else torch.tensor(0.0)
        )
        phi = torch.sigmoid(phi_logit)
        with animals_plate, poutine.mask(mask=seen):
            mu_z_t = seen.float() * phi * z + (1 - seen.float())
            z = pyro.sample(f"z_{t}", dist.Bernoulli(mu_z_t), infer=ENUMERATED)
            pyro.sample(f"y_{t}", dist.Bernoulli(rho * z), obs=capture_history[:, t])
        seen = seen | capture_history[:, t].bool()


def cjs_4(capture_history: Tensor, sex: Tensor) -> None:
    """Males and females survive differently."""
    n, years = capture_history.shape
    phi_male = pyro.sample("phi_male", dist.Uniform(0.0, 1.0))
    phi_female = pyro.sample("phi_female", dist.Uniform(0.0, 1.0))
    phi = sex * phi_male + (1.0 - sex) * phi_female
    rho = pyro.sample("rho", dist.Uniform(0.0, 1.0))
    with pyro.plate("animals", n, dim=-1):
        z = torch.ones(n)
        first_capture_mask = torch.zeros(n).bool()
        for t in pyro.markov(range(years)):
            with poutine.mask(mask=first_capture_mask):
                mu_z_t = first_capture_mask.float() * phi * z + (1 - first_capture_mask.float())
                z = pyro.sample(f"z_{t}", dist.Bernoulli(mu_z_t), infer=ENUMERATED)
                pyro.sample(f"y_{t}", dist.Bernoulli(rho * z), obs=capture_history[:, t])
            first_capture_mask = first_capture_mask | capture_history[:, t].bool()


def cjs_5(capture_history: Tensor, sex: Tensor) -> None:
    """Effects of group and year add up in logits."""
    n, years = capture_history.shape
    phi_beta = sex * pyro.sample("phi_beta", dist.Normal(0.0, 10.0))
    rho = pyro.sample("rho", dist.Uniform(0.0, 1.0))
    z = torch.ones(n)
    first_capture_mask = torch.zeros(n).bool()
    animals_plate = pyro.plate("animals", n, dim=-1)
    for t in pyro.markov(range(years)):
        phi_gamma_t = pyro.sample(f"phi_gamma_{t}", dist.Normal(0.0, 10.0)) if t > 0 else 0.0
        phi_t = torch.sigmoid(phi_beta + phi_gamma_t)
        with animals_plate, poutine.mask(mask=first_capture_mask):
            mu_z_t = first_capture_mask.float() * phi_t * z + (1 - first_capture_mask.float())
            z = pyro.sample(f"z_{t}", dist.Bernoulli(mu_z_t), infer=ENUMERATED)
            pyro.sample(f"y_{t}", dist.Bernoulli(rho * z), obs=capture_history[:, t])
        first_capture_mask = first_capture_mask | capture_history[:, t].bool()


def cjs_while_known_alive(capture_history: Tensor) -> None:
    """Animal after animal, from the year it was first caught: a value of the data decides where the loop starts."""
    n, years = capture_history.shape
    phi = pyro.sample("phi", dist.Beta(1.0, 1.0))
    rho = pyro.sample("rho", dist.Beta(1.0, 1.0))
    for i in pyro.plate("animals", n):
        first = int(capture_history[i].argmax())
        z = torch.tensor(1.0)
        for t in range(first + 1, years):
            z = pyro.sample(f"z_{i}_{t}", dist.Bernoulli(phi * z))
            pyro.sample(f"y_{i}_{t}", dist.Bernoulli(rho * z), obs=capture_history[i, t])


def n_mixture(counts: Tensor, cover: Tensor) -> None:
    """How many there are at a site is a latent; a visit counts a part of them."""
    beta = pyro.sample("beta", dist.Normal(torch.zeros(2), 1.0).to_event(1))
    p = pyro.sample("p", dist.Beta(2.0, 2.0))
    visits = pyro.plate("visits", counts.shape[1], dim=-1)
    with pyro.plate("sites", counts.shape[0], dim=-2):
        abundance = pyro.sample("abundance", dist.Poisson((beta[0] + beta[1] * cover + 1.0).exp().unsqueeze(-1)))
        with visits:
            pyro.sample("counts", dist.Binomial(abundance, p), obs=counts)


def occupancy(detections: Tensor, elevation: Tensor) -> None:
    """Is the species there, and was it seen? Detected only where it is."""
    a = pyro.sample("a", dist.Normal(torch.zeros(2), 1.5).to_event(1))
    with pyro.plate("visit", detections.shape[1], dim=-1):
        p = pyro.sample("p", dist.Beta(1.0, 1.0))
    with pyro.plate("site", len(detections), dim=-2):
        z = pyro.sample("z", dist.Bernoulli(logits=(a[0] + a[1] * elevation).unsqueeze(-1)), infer=ENUMERATED)
        with pyro.plate("visit_of_site", detections.shape[1], dim=-1):
            pyro.sample("seen", dist.Bernoulli(z * p), obs=detections)


def augmented(history: Tensor) -> None:
    """A closed population of unknown size: the list is filled up with animals that nobody saw."""
    animals, occasions = history.shape
    omega = pyro.sample("omega", dist.Uniform(0.0, 1.0))
    with pyro.plate("occasions", occasions, dim=-1):
        p = pyro.sample("p", dist.Uniform(0.0, 1.0))
    with pyro.plate("animals", animals, dim=-2):
        real = pyro.sample("real", dist.Bernoulli(omega), infer=ENUMERATED)
        with pyro.plate("occasions_again", occasions, dim=-1):
            pyro.sample("history", dist.Bernoulli(real * p), obs=history)
    pyro.deterministic("N", real.sum())


def predator_and_prey(hare: Tensor, lynx: Tensor) -> None:
    """Lotka and Volterra by Runge-Kutta steps; both are observed with error."""
    theta = pyro.sample("theta", dist.LogNormal(torch.tensor([-0.7, -3.5, -0.4, -3.7]), 0.3).to_event(1))
    start = pyro.sample("start", dist.LogNormal(torch.log(torch.tensor([10.0, 10.0])), 0.5).to_event(1))
    sigma = pyro.sample("sigma", dist.LogNormal(-1.0, 0.5).expand([2]).to_event(1))

    def field(x: Tensor) -> Tensor:
        return torch.stack([theta[0] * x[0] - theta[1] * x[0] * x[1], -theta[2] * x[1] + theta[3] * x[0] * x[1]])

    path, x, dt = [], start, 0.5
    for _ in range(hare.shape[0]):
        k1 = field(x)
        k2 = field(x + dt * k1)
        x = x + 2 * dt * (k1 + k2) / 2
        x = x.clamp(min=1e-3)
        path.append(x)
    z = torch.stack(path).log()
    with pyro.plate("years", hare.shape[0]):
        pyro.sample("hare", dist.LogNormal(z[:, 0], sigma[0]), obs=hare)
        pyro.sample("lynx", dist.LogNormal(z[:, 1], sigma[1]), obs=lynx)


def directions_of_flight(angle: Tensor, colony: Tensor) -> None:
    """Birds leave a colony in a direction; the directions of colonies are von Mises as well."""
    with pyro.plate("colonies", 2):
        mu = pyro.sample("mu", dist.VonMises(0.0, 0.5))
        kappa = pyro.sample("kappa", dist.Gamma(2.0, 0.5))
    with pyro.plate("birds", len(angle)):
        pyro.sample("angle", dist.VonMises(mu[colony], kappa[colony]), obs=angle)


HISTORY, SEX = bits(5, 4), bits(5, seed=2)

ENTRIES = (
    Entry(cjs_1, (HISTORY,), sites=(6, 4), note="a mask that depends on what was seen"),
    Entry(cjs_1_in_place, (HISTORY,), expect="mask-write", note="the example's mask, which is written in place"),
    Entry(cjs_2, (HISTORY, SEX), sites=(8, 4), note="a plate entered several times; an argument that is not read"),
    Entry(cjs_3, (HISTORY,), sites=(10, 4), note="random effects of years"),
    Entry(cjs_4, (HISTORY, SEX), sites=(7, 4), note="a group as a covariate"),
    Entry(cjs_5, (HISTORY, SEX), sites=(9, 4), note="a float or a tensor, as the step may be"),
    Entry(cjs_while_known_alive, (HISTORY,), expect="value-number", note="a loop from a value of the data"),
    Entry(
        n_mixture,
        (torch.tensor([[2.0, 1.0], [0.0, 0.0], [4.0, 5.0]]), values(3)),
        sites=(3, 1),
        note="a latent count is another's total",
    ),
    Entry(occupancy, (bits(4, 3), values(4)), sites=(3, 1), note="two plates over the same dimension"),
    Entry(augmented, (bits(6, 3),), sites=(3, 1), note="data augmentation; a sum of latents"),
    Entry(
        predator_and_prey,
        (torch.tensor([30.0, 47.2, 70.2]), torch.tensor([4.0, 6.1, 9.8])),
        sites=(3, 2),
        other_size=False,
        note="differential equations, a closure over a latent",
    ),
    Entry(
        directions_of_flight,
        (values(5), torch.tensor([0, 1, 1, 0, 1])),
        sites=(2, 1),
        note="von Mises as latent and target",
    ),
)
