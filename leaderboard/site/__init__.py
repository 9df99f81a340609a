"""Boards as HTML: a folder of static pages, or one self-contained page."""

from leaderboard.site.single_page import html
from leaderboard.site.site_builder import Site

__all__ = ["Site", "html"]
