"""Formats of microscopes: a module for each family, and one function that opens a `Stack`."""
