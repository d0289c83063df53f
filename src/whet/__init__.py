"""Turn a pre-trained model and your own rows into a model for your task."""
