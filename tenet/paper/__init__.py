"""What the paper needs beyond the tool: baselines, evaluation, figures."""
