"""Convolutional networks that are known by the names and shapes of their tensors, each in a file of its own."""
