"""Simulated ground truth: volumes of known shape and brightness."""
