"""What we start from: a pre-trained module, where it can be cut, and where it came from."""
