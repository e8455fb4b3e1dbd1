"""What the rules share, as Python that is tested without Snakemake running."""
