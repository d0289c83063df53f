"""What comes in: rows on disk, the checks that need no model, and honest splits."""
