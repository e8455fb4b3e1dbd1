"""Measures of segmentations and of shapes: one protocol scores every method."""
