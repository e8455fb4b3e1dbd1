"""From predictions and truth to tables."""
