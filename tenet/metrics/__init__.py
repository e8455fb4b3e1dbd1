"""Measures of segmentations and of shapes; the one protocol by which every method is scored."""
