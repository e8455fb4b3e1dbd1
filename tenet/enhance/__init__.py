"""A model applied to stacks of any size."""
