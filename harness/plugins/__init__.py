"""Discovery and loading of tasks and submissions."""
