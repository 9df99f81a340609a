"""One evaluated entry: what a row says, and the keys that make writing it twice the same as writing it once."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self


class Status(StrEnum):
    """Outcome of an entry or of a single fit, as it is stored."""

    COMPLETE = "complete"
    FAILED = "failed"
    INVALID = "invalid"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out-of-memory"
    CPU_LIMIT = "cpu-limit"
    PROCESS_LIMIT = "process-limit"
    OUTPUT_LIMIT = "output-limit"
    DISK_LIMIT = "disk-limit"
    PRUNED = "pruned"
    """Trials only: a row of a board is never pruned."""


STATUSES = tuple(status for status in Status if status is not Status.PRUNED)
"""Statuses that a row of a board may have."""


@dataclass(frozen=True)
class Result:
    """One row without its rank. Scores are in the metric's own units, times in seconds, memory in MB (10^6 bytes)."""

    result_id: str
    entry: str
    """The key of what was asked for: the same task, data, source and budget have the same entry, whatever the attempt."""
    task: str
    task_version: int
    kind: str
    submission: str
    metric: str
    higher_is_better: bool
    status: str
    error: str | None = None
    score: float | None = None
    score_std: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    seeds: list[float] = field(default_factory=list)
    seed_interaction: float = 0.0
    """Of the variance that the score shows between seeds, what is due to the samples at hand, on which seeds happen to differ."""
    units: int = 0
    """Hidden samples that do not depend on each other: all of them, or blocks where neighbours overlap; 0 where it is not known."""
    public_score: float | None = None
    private_score: float | None = None
    valid_score: float | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    references: dict[str, float] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    """What a reader of the board should know of this entry beside its score."""
    params: dict[str, Any] = field(default_factory=dict)
    history: list[list[float]] = field(default_factory=list)
    """The search: pairs of a number of trials and the best validation score after so many, where that became better."""
    importance: dict[str, float] = field(default_factory=dict)
    """How much each hyperparameter mattered in the search, as shares of 1; empty where too few trials tell."""
    n_trials: int = 0
    n_pruned: int = 0
    n_failed: int = 0
    fit_seconds: float | None = None
    predict_seconds: float | None = None
    search_seconds: float | None = None
    peak_memory_mb: float | None = None
    n_parameters: int | None = None
    energy_joules: float | None = None
    """What the machine used while the final seeds were fitted and asked, for each of them; None where it has no meter, and
    where they took more than ten minutes, after which a meter may have started anew."""
    summary: str = ""
    device: str = "cpu"
    isolation: str = "process"
    """The tier that the code really ran under: sandbox-a, sandbox-b, process; or file, for predictions that came as one."""
    probe: dict[str, str] = field(default_factory=dict)
    """What was tried from inside that tier on this machine, and whether it was open or closed."""
    study: str = ""
    """The key that the store keeps this entry's trials and seeds under."""
    source: str = ""
    """The plug-in's file among the kept ones, with ``:Object`` where one was named."""
    source_sha256: str = ""
    data_sha256: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    commit: str | None = None
    created_at: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"status should be one of {', '.join(STATUSES)}; it is {self.status!r}")
        if type(self.status) is not str:
            object.__setattr__(
                self, "status", str(self.status)
            )  # database drivers bind an enum member in their own way
        if self.status == Status.COMPLETE and not (self.score is not None and math.isfinite(self.score)):
            raise ValueError(f"a complete result needs a finite score; it has {self.score}")

    @property
    def complete(self) -> bool:
        return self.status == Status.COMPLETE

    def row(self) -> dict[str, Any]:
        """The record as a dict, keys as in the interface."""
        return dict(vars(self))  # not `asdict`, whose deep copies cost more than the rest of a large board

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The result of a record; keys that this version does not know are left out."""
        return cls(**{name: value for name, value in row.items() if name in cls.__dataclass_fields__})


def content_key(*parts: Any) -> str:
    """A 24-digit key of anything that JSON can hold; the same content has the same key."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]
