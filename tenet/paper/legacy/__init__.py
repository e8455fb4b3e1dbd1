"""Classes that the published notebooks call."""
