"""Notebooks: their cells as one program that is converted as any other, and back into the cells."""
