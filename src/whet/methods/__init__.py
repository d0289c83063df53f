"""What may move, and when."""
