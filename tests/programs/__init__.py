"""Small Pyro programs in the manner of Pyro's examples and tutorials, one feature or trap in each."""

from tests.programs import arguments, families, handlers, networks, parameters, plates, sequences, sizes, writes
from tests.programs.program import Program

PROGRAMS: tuple[Program, ...] = (
    *plates.PROGRAMS,
    *families.PROGRAMS,
    *parameters.PROGRAMS,
    *networks.PROGRAMS,
    *sequences.PROGRAMS,
    *handlers.PROGRAMS,
    *writes.PROGRAMS,
    *arguments.PROGRAMS,
    *sizes.PROGRAMS,
)
