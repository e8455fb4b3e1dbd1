"""Baselines under the conditions that TENET has: stacks, microscope, phantoms, folds."""
