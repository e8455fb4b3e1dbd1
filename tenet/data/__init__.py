"""What networks learn from: phantoms, crops of stacks, and which a fold leaves out."""
