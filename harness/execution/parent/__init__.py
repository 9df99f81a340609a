"""Trusted side: starts workers in isolation, runs trials in them, keeps limits, verifies answers. Imports nothing of `child`."""
