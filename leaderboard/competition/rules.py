"""Rules of a competition, read from its TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any, Self

from leaderboard.errors import StoreError

RELEASES = ("ladder", "scores", "ranks", "nothing")


@dataclass(frozen=True)
class Rules:
    """Rules of a competition; all but the first four have defaults.

    ``public`` is the share of hidden samples for the public board. ``per_day`` and ``in_all`` are the numbers of entries allowed
    per team, in a day (UTC) and in total. ``picks`` is the number of entries of a team that count on the final board. ``release``
    is the content of the public board: scores by the Ladder (``ladder``), exact scores (``scores``), ranks only (``ranks``), or
    ``nothing``. ``teams`` are the teams that may enter, all if it is empty.
    """

    name: str
    task: str
    opens: datetime
    closes: datetime
    public: float = 0.5
    per_day: int = 5
    in_all: int = 100
    picks: int = 2
    release: str = "ladder"
    teams: Sequence[str] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the rules in a TOML file. Raises StoreError if it cannot be read, or if a rule is unknown, missing or invalid."""
        try:
            values = tomllib.loads(path.read_text())
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise StoreError(f"{path} is no TOML: {error}") from error
        known = {field.name for field in fields(cls)}
        for name in values:
            if name not in known:
                raise StoreError(f"{path}: there is no rule called {name!r}; there are {', '.join(sorted(known))}")
        for name in ("name", "task", "opens", "closes"):
            if name not in values:
                raise StoreError(f"{path}: {name} is missing")
        rules = cls(**values)
        rules.check(str(path))
        return rules

    def check(self, source: str) -> None:
        """Raise StoreError if a value is not valid; ``source`` names the file in the message."""

        def require(holds: bool, expected: str, value: Any) -> None:
            if not holds:
                raise StoreError(f"{source}: {expected}; it is {value!r}")

        for name in ("name", "task"):
            value = getattr(self, name)
            require(isinstance(value, str) and bool(value.strip()), f"{name} should be a text", value)
        for name in ("opens", "closes"):
            value = getattr(self, name)
            aware = isinstance(value, datetime) and value.tzinfo is not None
            require(aware, f"{name} should be a time with its offset, such as 2026-12-01T09:00:00Z", str(value))
        require(self.closes > self.opens, f"closes should be after opens, {self.opens}", str(self.closes))
        require(is_number(self.public) and 0 < self.public < 1, "public should be between 0 and 1", self.public)
        for name in ("per_day", "in_all", "picks"):
            value = getattr(self, name)
            require(
                isinstance(value, int) and not isinstance(value, bool) and value > 0,
                f"{name} should be 1 or more",
                value,
            )
        require(self.release in RELEASES, f"release should be one of {', '.join(RELEASES)}", self.release)
        listed = isinstance(self.teams, (list, tuple)) and all(isinstance(team, str) for team in self.teams)
        require(listed, "teams should be a list of names", self.teams)

    def record(self) -> dict[str, Any]:
        """Return the rules as a dict for events and JSON, with times as ISO 8601 text."""
        times = {"opens": self.opens.isoformat(), "closes": self.closes.isoformat(), "teams": list(self.teams)}
        return asdict(self) | times


def is_number(value: Any) -> bool:
    """Return True for an int or a float, False for a bool and anything else."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
