"""The doctor: mistakes in mixed precision that a file has already."""
