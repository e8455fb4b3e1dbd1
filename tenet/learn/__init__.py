"""Training: what a model learns from phantoms, and then from the stacks themselves."""
