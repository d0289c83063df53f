"""Everything that can be fitted."""
