"""Programs in the manner of Pyro's examples and tutorials, each with what the compiler should make of it.

No program is here because it works, and none is left out because it does not.
"""

from dataclasses import replace
from importlib import import_module

from tests.corpus.entry import Entry

TOPICS = (
    "mixtures",
    "hmm",
    "topic_models",
    "regression",
    "gaussian_processes",
    "deep",
    "factorisation",
    "time_series",
    "epidemiology",
    "ecology",
    "item_response",
    "psychology",
    "ranking",
    "survival",
    "causal",
    "bayesian_nets",
    "phylogeny",
    "finance",
    "guides",
    "not_static",
)

ENTRIES: tuple[Entry, ...] = tuple(
    replace(entry, topic=topic.replace("_", " "))
    for topic in TOPICS
    for entry in import_module(f"tests.corpus.{topic}").ENTRIES
)
