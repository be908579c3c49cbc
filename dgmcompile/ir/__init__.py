"""The graph, its text form and its invariants: the ground floor, which imports nothing else of ours."""
