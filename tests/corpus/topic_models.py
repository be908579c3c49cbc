"""Topic models: words are drawn from topics, topics from documents."""

import pyro
import pyro.distributions as dist
import torch
import torch.nn.functional as F
from pyro.distributions import constraints
from pyro.infer import config_enumerate
from torch import Tensor, nn

from tests.corpus.entry import Entry
from tests.programs.program import seeded

WORDS, TOPICS = 6, 3


@config_enumerate
def latent_dirichlet_allocation(data: Tensor | None = None, batch_size: int | None = None) -> Tensor:
    """``data`` is (words per document, documents)."""
    length, documents = (4, 5) if data is None else data.shape
    with pyro.plate("topics", TOPICS):
        topic_weights = pyro.sample("topic_weights", dist.Gamma(1.0 / TOPICS, 1.0))
        topic_words = pyro.sample("topic_words", dist.Dirichlet(torch.ones(WORDS) / WORDS))
    with pyro.plate("documents", documents, batch_size) as ind:
        if data is not None:
            data = data[:, ind]
        doc_topics = pyro.sample("doc_topics", dist.Dirichlet(topic_weights))
        with pyro.plate("words", length):
            word_topics = pyro.sample("word_topics", dist.Categorical(doc_topics))
            return pyro.sample("doc_words", dist.Categorical(topic_words[word_topics]), obs=data)


class TopicGuide(nn.Module):
    """The amortised guide: counts of words -> a point estimate of a document's topics."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(WORDS, 5), nn.Sigmoid(), nn.Linear(5, TOPICS), nn.Softmax(dim=-1))

    def forward(self, data: Tensor, batch_size: int | None = None) -> None:
        weights = pyro.param("weights_posterior", lambda: torch.ones(TOPICS), constraint=constraints.positive)
        words = pyro.param(
            "words_posterior", lambda: torch.ones(TOPICS, WORDS), constraint=constraints.greater_than(0.5)
        )
        with pyro.plate("topics", TOPICS):
            pyro.sample("topic_weights", dist.Gamma(weights, 1.0))
            pyro.sample("topic_words", dist.Dirichlet(words))
        pyro.module("layers", self.layers)
        with pyro.plate("documents", data.shape[1], batch_size) as ind:
            data = data[:, ind]
            counts = torch.zeros(WORDS, data.shape[1]).scatter_add(0, data, torch.ones(data.shape))
            doc_topics = self.layers(counts.transpose(0, 1))
            pyro.sample("doc_topics", dist.Delta(doc_topics, event_dim=1))


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Linear(TOPICS, WORDS, bias=False)
        self.bn = nn.BatchNorm1d(WORDS, affine=False)

    def forward(self, theta: Tensor) -> Tensor:
        return F.softmax(self.bn(self.beta(theta)), dim=1)


class ProdLDA(nn.Module):
    """Autoencoded topics: a logistic normal in place of the Dirichlet, a product of experts in place of the mixture.

    Args:
        counted: are the totals taken from the data, as the tutorial does?
    """

    def __init__(self, counted: bool) -> None:
        super().__init__()
        self.counted = counted
        self.decoder = Decoder()

    def model(self, docs: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("documents", docs.shape[0]):
            logtheta_loc = docs.new_zeros((docs.shape[0], TOPICS))
            logtheta_scale = docs.new_ones((docs.shape[0], TOPICS))
            logtheta = pyro.sample("logtheta", dist.Normal(logtheta_loc, logtheta_scale).to_event(1))
            theta = F.softmax(logtheta, -1)
            count_param = self.decoder(theta)
            total_count = int(docs.sum(-1).max()) if self.counted else 10
            pyro.sample("obs", dist.Multinomial(total_count, count_param), obs=docs)


def correlated_topics(counts: Tensor) -> None:
    """Topics come together: a covariance between them, and sticks broken from normals."""
    scale = pyro.sample("scale", dist.HalfCauchy(torch.ones(TOPICS - 1)).to_event(1))
    corr = pyro.sample("corr", dist.LKJCholesky(TOPICS - 1, 2.0))
    topic_words = pyro.sample("topic_words", dist.Dirichlet(torch.full((TOPICS, WORDS), 0.2)).to_event(1))
    tril = scale.diag_embed() @ corr
    with pyro.plate("documents", len(counts)):
        eta = pyro.sample("eta", dist.MultivariateNormal(torch.zeros(TOPICS - 1), scale_tril=tril))
        theta = F.softmax(F.pad(eta, (0, 1)), -1)
        pyro.sample("counts", dist.Multinomial(10, theta @ topic_words), obs=counts)


def supervised_topics(words: Tensor, rating: Tensor) -> None:
    """What a review is about explains its rating; ``words`` is (documents, words per document)."""
    topic_words = pyro.sample("topic_words", dist.Dirichlet(torch.ones(TOPICS, WORDS)).to_event(1))
    effect = pyro.sample("effect", dist.Normal(torch.zeros(TOPICS), 2.0).to_event(1))
    documents = pyro.plate("documents", len(words), dim=-2)
    tokens = pyro.plate("tokens", words.shape[1], dim=-1)
    with documents:
        theta = pyro.sample("theta", dist.LogisticNormal(torch.zeros(TOPICS - 1), torch.ones(TOPICS - 1)))
        with tokens:
            z = pyro.sample("z", dist.Categorical(theta))
            pyro.sample("w", dist.Categorical(topic_words[z]), obs=words)
    shares = F.one_hot(z, TOPICS).float().mean(-2)
    with pyro.plate("ratings", len(words), dim=-1):
        pyro.sample("rating", dist.Normal(shares @ effect, 0.5), obs=rating)


def embedded_topics(counts: Tensor, embeddings: Tensor) -> None:
    """Topics are points among the embeddings of words, which are data."""
    alpha = pyro.sample("alpha", dist.Normal(torch.zeros(TOPICS, embeddings.shape[1]), 1.0).to_event(2))
    beta = F.softmax(alpha @ embeddings.t(), -1)
    with pyro.plate("documents", counts.shape[0]):
        theta = pyro.sample("theta", dist.Dirichlet(torch.full((TOPICS,), 0.3)))
        pyro.sample("counts", dist.Multinomial(probs=theta @ beta, total_count=10), obs=counts)


CORPUS = torch.tensor([[0, 1, 2, 3, 4], [5, 5, 0, 1, 2], [3, 3, 3, 4, 0], [1, 2, 4, 0, 5]])
COUNTS = torch.tensor([[5.0, 3.0, 0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 4.0, 4.0, 2.0, 0.0], [1.0, 1.0, 1.0, 1.0, 3.0, 3.0]])

ENTRIES = (
    Entry(latent_dirichlet_allocation, (CORPUS,), sites=(4, 1), note="the example: plates, enumeration"),
    Entry(latent_dirichlet_allocation, sites=(4, 1), other_size=False, name="LDA without data", note="all by default"),
    Entry(
        latent_dirichlet_allocation,
        (CORPUS,),
        {"batch_size": 2},
        sites=(4, 1),
        name="LDA on a mini-batch",
        note="a drawn mini-batch, of which nothing but the observed words is read",
    ),
    Entry(
        seeded(TopicGuide),
        (CORPUS,),
        targets="all",
        sites=(0, 3),
        name="TopicGuide",
        note="the guide of the example: scatter_add, a Delta",
    ),
    Entry(
        seeded(TopicGuide),
        (CORPUS, 2),
        targets="all",
        expect="drawn-subsample",
        name="TopicGuide on a mini-batch",
        note="the drawn indices decide what the network reads",
    ),
    Entry(
        seeded(lambda: ProdLDA(counted=True)).model,
        (COUNTS,),
        expect="value-number",
        name="ProdLDA of the tutorial",
        note="int() of a sum of data",
    ),
    Entry(
        seeded(lambda: ProdLDA(counted=False)).model,
        (COUNTS,),
        sites=(1, 1),
        name="ProdLDA of a known length",
        note="the same with a constant; batch normalisation",
    ),
    Entry(correlated_topics, (COUNTS,), sites=(4, 1), note="LKJ prior, softmax of a multivariate normal"),
    Entry(
        supervised_topics, (CORPUS.t(), torch.rand(5)), sites=(4, 2), note="shares of discrete latents as regressors"
    ),
    Entry(embedded_topics, (COUNTS, torch.rand(6, 2)), sites=(2, 1), note="embeddings as an argument"),
)
