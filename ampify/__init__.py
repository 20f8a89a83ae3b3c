"""ampify: rewrites plain fp32 PyTorch training scripts into mixed-precision ones."""

from ampify.convert import Options, Result, convert

__all__ = ["Options", "Result", "convert"]
