"""Facts of recorded fits: typed records, and the JSON objects that the store keeps of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from leaderboard.store.store import Fit


@dataclass(frozen=True)
class TrialFacts:
    """Facts of a trial of a search."""

    seconds: float = 0.0
    """Time of all its fits; its share, if they were vectorized."""
    losses: Sequence[float | None] = ()
    """Reported losses of the full fit; None for one that is not finite."""
    error: str | None = None
    members: int | None = None
    """Number of trials in its vectorized fit; None if it was fitted alone."""
    low_fidelity: Mapping[int, float] = field(default_factory=dict)
    """Losses of low-fidelity fits, by tenths of the budget."""
    low_fidelity_reports: Mapping[int, int] = field(default_factory=dict)
    """Numbers of reports of these fits."""
    subsets: Mapping[int, float] = field(default_factory=dict)
    """Losses of fits on subsets, by ninths of the training split."""

    @classmethod
    def of(cls, fit: Fit) -> Self:
        """Read the facts of a recorded trial. Facts that are missing have their defaults."""
        facts = fit.facts
        return cls(
            float(facts.get("seconds", 0.0)),
            facts.get("losses", []),
            facts.get("error"),
            facts.get("together"),
            {int(key): loss for key, loss in facts.get("drafts", {}).items()},
            {int(key): reports for key, reports in facts.get("tried", {}).items()},
            {int(key): loss for key, loss in facts.get("parts", {}).items()},
        )

    def stored(self) -> dict[str, Any]:
        """Return the JSON object for the store. Its keys are those of version 0.1; facts that do not apply are left out."""
        facts: dict[str, Any] = {"seconds": self.seconds, "losses": list(self.losses)}
        if self.error is not None:
            facts["error"] = self.error
        if self.members is not None:
            facts["together"] = self.members
        if self.low_fidelity:
            facts["drafts"] = {str(key): loss for key, loss in self.low_fidelity.items()}
            facts["tried"] = {str(key): reports for key, reports in self.low_fidelity_reports.items()}
        if self.subsets:
            facts["parts"] = {str(key): loss for key, loss in self.subsets.items()}
        return facts


@dataclass(frozen=True)
class FinalFacts:
    """Facts of a final fit. ``peak_memory`` is in bytes; the scores are in the metric's own units."""

    public: float
    private: float
    valid: float
    metrics: Mapping[str, float]
    fit_seconds: float
    predict_seconds: float
    peak_memory: int
    n_parameters: int | None
    summary: str
    curve: Sequence[float | None]
    """Reported losses, at most a thousand; None for one that is not finite. Empty for a fit of a version that did not keep them."""

    @classmethod
    def of(cls, fit: Fit) -> Self:
        """Read the facts of a recorded final fit."""
        facts = {**fit.facts, "curve": fit.facts.get("curve") or ()}
        return cls(**{name: facts[name] for name in cls.__dataclass_fields__})

    def stored(self) -> dict[str, Any]:
        """Return the JSON object for the store."""
        return dict(vars(self))
