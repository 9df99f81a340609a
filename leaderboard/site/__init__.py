"""Boards to look at: a folder of pages that any web server, or none, can show, and a page that is one file."""

from leaderboard.site.single_page import html
from leaderboard.site.site_builder import Site

__all__ = ["Site", "html"]
