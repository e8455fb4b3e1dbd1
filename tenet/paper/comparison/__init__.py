"""Baselines under the conditions of TENET: the same stacks, microscope, phantoms and folds."""
