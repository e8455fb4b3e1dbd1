"""Image stacks on disk: what reads them, a module for each format."""
