"""Hyperparameter search of one submission."""
