"""Constants for the answers of the isolation probe, shared by the probe and the parent: an attack is open (possible) or closed."""

from __future__ import annotations

OPEN, CLOSED = "open", "closed"
