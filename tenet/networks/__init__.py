"""Neural networks, and what makes them fast."""
