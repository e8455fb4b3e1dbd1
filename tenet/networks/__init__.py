"""Neural networks, and the convolutions and recordings that make them fast."""
