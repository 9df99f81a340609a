"""Answers of the isolation probe, shared by the probe and the parent."""

from __future__ import annotations

OPEN, CLOSED = "open", "closed"
