"""Search for the best hyperparameters of one entry, composed of four parts:

- the sampler suggests hyperparameters (`sampler`);
- the fidelity policy says which trials start small, and which of them are promoted or pruned (`fidelity`);
- the history holds running and recorded trials, shared with other commands by leases (`history`);
- the runner fits trials, alone or vectorized (`trial_runner`).

The coordinator joins them. Submissions with a vectorized fit run in blocks (`blocks`), trials with a low fidelity in cohorts
(`cohorts`), all others one by one, as many at a time as there are slots.
"""

from __future__ import annotations

import time
from contextlib import closing

from harness.dispatch import POLL_SECONDS, RunContext, run_parallel
from harness.plugins.description import Description
from harness.search.blocks import VectorizedTrials
from harness.search.cohorts import Cohorts
from harness.search.coordinator import Coordinator
from harness.search.fidelity import FidelityPolicy
from harness.search.history import TrialHistory
from harness.search.outcome import SearchResult, summarize
from harness.search.sampler import Sampler
from harness.search.trial import SearchConfig


class Search:
    """Hyperparameter search of one entry, a submission on a task. Recorded trials are not run again.

    From ``timeout`` seconds after its creation on, the search starts no new trials.
    """

    def __init__(
        self,
        context: RunContext,
        description: Description,
        *,
        n_trials: int,
        timeout: float | None = None,
        config: SearchConfig | None = None,
    ) -> None:
        config = config or SearchConfig()
        higher_is_better = context.scorer.task.ranking.higher_is_better
        self.context, self.n_trials = context, n_trials
        self.sampler = Sampler(description, higher_is_better=higher_is_better, first=config.first, seed=config.seed)
        self.policy = FidelityPolicy(description, config, n_trials, self.sampler.sign)
        self.history = TrialHistory(context, self.policy, n_trials, timeout)
        self.trials = Coordinator(context, self.sampler, self.policy, self.history)
        # A limit on processor time cannot be counted for each member of a vectorized fit.
        self.is_vectorizable = description.vectorizable and context.workers.config.limits.cpu_seconds is None

    def run(self) -> SearchResult:
        """Run all trials and return the result. Raises TrialFailed if no trial is complete at the end."""
        with closing(self.history), closing(self.trials.runner):
            self.history.report_progress()
            if self.is_vectorizable:
                VectorizedTrials(self.context, self.trials, self.n_trials).run()
            else:
                self.trials.tell_all()
            if self.policy.may_run_cohorts(len(self.context.scorer.train_split)):
                Cohorts(self.trials, self.n_trials).run()
            self.run_others()
            return summarize([self.history.fits[number] for number in sorted(self.history.fits)], self.sampler.sign)

    def run_others(self) -> None:
        """Run the trials that are left one by one, as many at a time as there are slots; wait for trials that other commands run.

        Returns when all trials are recorded or the search should stop.
        """
        noted_waiting = False
        while True:
            left = [number for number in range(self.n_trials) if number not in self.history.fits]
            run_parallel(left, self.trials.run_one, self.context)
            left = [number for number in left if number not in self.history.fits]
            if not left or self.history.should_stop():
                return
            if not noted_waiting:
                noted_waiting = True
                self.context.progress.note(f"{len(left)} trials are being run by another command; waiting for them")
            time.sleep(POLL_SECONDS)
            with self.history.lock:
                self.history.load()
                self.history.report_progress()
