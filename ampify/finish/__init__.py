"""Training steps in float32 beside ones with mixed precision of the author's, written in the author's way."""
