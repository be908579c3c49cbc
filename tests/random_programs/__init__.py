"""Programs that nobody wrote: Pyro models put together at random, and all that has to hold of each."""
