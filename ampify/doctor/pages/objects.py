"""Findings of the objects: how the scaler is made, kept, saved and handed on."""

PAGES = ()
