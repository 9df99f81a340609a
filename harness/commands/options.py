"""Options that `harness.run` and `bakeoff tune` share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.contract import MAX_SECONDS, Limits
from harness.errors import UsageError

if TYPE_CHECKING:
    import argparse


def check_seconds(seconds: float | None) -> None:
    """Raise UsageError unless a time limit lies between 0 and `MAX_SECONDS` or is None (no limit)."""
    if seconds is not None and not 0 < seconds <= MAX_SECONDS:
        raise UsageError(f"a time limit should be more than 0 seconds and at most {MAX_SECONDS:g}; it is {seconds:g}")


@dataclass(frozen=True)
class RunOptions:
    """Machines and limits of the trials, and the place where results are kept. Raises UsageError for a wrong time limit.

    ``time_limit`` is in seconds, for one fit with its predictions; None is the task's own. ``workers`` is the number of trials at
    once; None is one per core or GPU. ``devices`` is "auto", "cpu" or a list such as "cuda:0,cuda:1". ``isolation_tier`` is "auto"
    (the best that works), "sandbox" (a or b), "sandbox-a", "sandbox-b" or "process". ``limits`` override the task's limits.
    ``cluster`` is the address of a Ray cluster; None is this machine. ``store`` is the URL of a PostgreSQL server; None is SQLite
    in ``home``.
    """

    time_limit: float | None = None
    workers: int | None = None
    devices: str = "auto"
    isolation_tier: str = "auto"
    limits: Limits = Limits()  # noqa: RUF009, frozen
    cluster: str | None = None
    home: Path = Path(".bakeoff")
    store: str | None = None

    def __post_init__(self) -> None:
        check_seconds(self.time_limit)

    @classmethod
    def from_arguments(cls, arguments: argparse.Namespace) -> RunOptions:
        """Return the options that the parsed command line of `bakeoff run` or `bakeoff tune` gives."""
        return cls(
            time_limit=arguments.time_limit,
            workers=arguments.workers,
            devices=arguments.devices,
            isolation_tier=arguments.isolation,
            limits=Limits(
                arguments.cpu_limit,
                arguments.memory_limit,
                arguments.process_limit,
                arguments.output_limit,
                arguments.disk_limit,
            ),
            cluster=arguments.cluster,
            home=arguments.home,
            store=arguments.store,
        )
