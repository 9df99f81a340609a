"""Allocates memory without end at import, before there is any trial.

Hopes that limits begin with the first trial.
"""

from _base import GotThrough, Ignorant

VERDICT = {"status": ["failed", "out-of-memory"]}
OPTIONS = {"limits": "tight"}
TIERS = {"process": "not promised: only trials are counted"}

KEPT = []
while len(KEPT) < 600:
    KEPT.append(b"x" * 10_000_000)
raise GotThrough(f"has {len(KEPT) * 10_000_000:,} bytes")


class Attack(Ignorant):
    pass
