"""Checks of rows that need a model."""
