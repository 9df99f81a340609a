"""Thin bases that shorten a plug-in, one file per library; each is imported only by plug-ins that want it."""
