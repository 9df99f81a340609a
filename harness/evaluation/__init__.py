"""Evaluation of one entry on one task, from search to recorded result."""
