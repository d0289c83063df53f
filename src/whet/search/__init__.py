"""Which settings: the automatic ladder."""
