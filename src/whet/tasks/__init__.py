"""What is predicted: targets, loss terms, decoding."""
