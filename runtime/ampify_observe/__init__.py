"""Runs a training script and writes down, from outside of it, what every optimizer really sees. It is what `ampify verify` runs,
and no converted script imports it. Torch and the standard library only; see `python -m ampify_observe --help`."""
