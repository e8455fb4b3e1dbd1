"""The bench of real structures: tissue of known shape, blurred, recorded, and judged."""
