"""The rules of a competition, as its file says them."""

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
    """What a competition's file says; all but the first four have defaults.

    ``public`` is the share of the hidden samples whose scores the public board goes by; ``picks`` how many entries of a team count
    in the end; ``release`` what the public board tells: scores by the Ladder, scores as they are, ranks alone, or nothing;
    ``teams`` who may enter, anybody where it is empty.
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
        """The rules in a TOML file. Raises StoreError with what was expected and what came."""
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
        def ask(holds: bool, what: str, value: Any) -> None:
            if not holds:
                raise StoreError(f"{source}: {what}; it is {value!r}")

        for name in ("name", "task"):
            value = getattr(self, name)
            ask(isinstance(value, str) and bool(value.strip()), f"{name} should be a text", value)
        for name in ("opens", "closes"):
            value = getattr(self, name)
            aware = isinstance(value, datetime) and value.tzinfo is not None
            ask(aware, f"{name} should be a time with its offset, such as 2026-12-01T09:00:00Z", str(value))
        ask(self.closes > self.opens, f"closes should be after opens, {self.opens}", str(self.closes))
        ask(is_number(self.public) and 0 < self.public < 1, "public should be between 0 and 1", self.public)
        for name in ("per_day", "in_all", "picks"):
            value = getattr(self, name)
            ask(
                isinstance(value, int) and not isinstance(value, bool) and value > 0,
                f"{name} should be 1 or more",
                value,
            )
        ask(self.release in RELEASES, f"release should be one of {', '.join(RELEASES)}", self.release)
        listed = isinstance(self.teams, (list, tuple)) and all(isinstance(team, str) for team in self.teams)
        ask(listed, "teams should be a list of names", self.teams)

    def record(self) -> dict[str, Any]:
        """For events and JSON."""
        times = {"opens": self.opens.isoformat(), "closes": self.closes.isoformat(), "teams": list(self.teams)}
        return asdict(self) | times


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
