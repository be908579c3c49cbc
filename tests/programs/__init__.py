"""Small Pyro programs in the manner of Pyro's examples and tutorials, one feature or trap in each."""

from tests.programs import (
    arguments,
    bayesian_layers,
    compositions,
    contrib,
    enumeration,
    families,
    flows,
    guides,
    handlers,
    networks,
    parameters,
    plates,
    poutines,
    sequences,
    sizes,
    writes,
)
from tests.programs.program import Program

PROGRAMS: tuple[Program, ...] = (
    *plates.PROGRAMS,
    *families.PROGRAMS,
    *compositions.PROGRAMS,
    *flows.PROGRAMS,
    *parameters.PROGRAMS,
    *networks.PROGRAMS,
    *sequences.PROGRAMS,
    *handlers.PROGRAMS,
    *poutines.PROGRAMS,
    *enumeration.PROGRAMS,
    *bayesian_layers.PROGRAMS,
    *guides.PROGRAMS,
    *contrib.PROGRAMS,
    *writes.PROGRAMS,
    *arguments.PROGRAMS,
    *sizes.PROGRAMS,
)
