"""Graph -> the source of one standalone file, and the module that runs it."""

from dgmcompile.codegen.module import compile_graph, source_of

__all__ = ["compile_graph", "source_of"]
