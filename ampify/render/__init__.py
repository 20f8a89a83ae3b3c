"""Rendering: from a plan and the source's bytes to the new bytes, by libcst, in one pass."""
