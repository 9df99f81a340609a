"""Base classes for submissions, one file for each library. A plug-in imports only the one it needs."""
