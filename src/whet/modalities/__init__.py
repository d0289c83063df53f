"""One raw value to tensors: text, image, audio, ..."""
