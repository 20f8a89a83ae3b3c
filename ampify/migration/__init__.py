"""Migration: code that spells mixed precision as older versions of torch did, written as torch.amp."""
