"""The model, its weights on disk, and its intensity scale and certainty."""
