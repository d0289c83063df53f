"""What is in a model, what methods would train of it, and what its blocks tell."""
