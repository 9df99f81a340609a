"""Vectorized training: many configurations of one torch submission in one loop."""
