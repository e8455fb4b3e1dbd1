"""Parts of the paper beyond the tool: baselines, evaluation, figures."""
