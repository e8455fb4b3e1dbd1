"""Image stacks on disk. Each module reads one format."""
