"""Answers of the probe, as it prints them and as the parent reads them."""

from __future__ import annotations

OPEN, CLOSED = "open", "closed"
