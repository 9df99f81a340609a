"""Competitions: rules, entries, append-only events and the Ladder that releases public scores."""
