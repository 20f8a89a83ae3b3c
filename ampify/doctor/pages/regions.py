"""Findings of the regions: what runs under autocast, and what should not."""

PAGES = ()
