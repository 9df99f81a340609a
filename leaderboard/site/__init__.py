"""Boards to look at: a folder of pages that any web server, or none, can show, and a page that is one file."""

from leaderboard.site.folder import Site
from leaderboard.site.single import html

__all__ = ["Site", "html"]
