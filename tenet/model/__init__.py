"""The model, its weights on disk, and what it is told before use."""
