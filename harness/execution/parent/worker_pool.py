"""All workers of one submission: one for the search, and fresh ones for fits that see hidden inputs."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager
from types import TracebackType

from harness.errors import PluginError
from harness.execution.parent.limits import MEBIBYTE
from harness.execution.parent.workers import Worker, WorkerConfig
from harness.plugins.bundle import Bundle
from harness.plugins.description import Description


class WorkerPool(AbstractContextManager["WorkerPool"]):
    """All workers of one submission on this machine. Close the pool when done.

    The first worker is for the search; fits that see hidden test inputs run in `fresh` ones.
    """

    keeps_models = True
    """True: fitted models may wait in a worker of this pool until the other seeds are fitted. A remote machine may be lost
    meanwhile."""

    def __init__(self, bundle: Bundle, config: WorkerConfig) -> None:
        self.bundle, self.config = bundle, config
        self.lock = threading.Lock()
        self.closed = self.described = False
        self.first = Worker(bundle, config)
        self.workers = [self.first]
        self.spare = [self.first]
        self.expected = 1
        self.ahead = config.at_once
        self.paused = False

    def ready(self) -> Description:
        """Wait until the first worker has imported the submission, and return the submission's description.

        Raises PluginError, and TrialFailed if the import exceeded a limit.
        """
        description = self.first.ready()
        self.described = True
        return description

    def expect(self, count: int, queries: int = 0) -> None:
        """Announce the number of fresh workers to come. Start ahead as many as run at once, and ``queries`` for further queries."""
        with self.lock:
            if self.first.used and self.first in self.spare:  # no final fit may find what the search left there
                self.spare.remove(self.first)
                self.first.close()
            self.expected, self.ahead = count, self.config.at_once + queries
            self._warm_ahead()

    def fresh(self) -> Worker:
        """Return a ready worker that has never received hidden test inputs. Close it after one use.

        Raises PluginError if the pool is closed or no worker starts, TrialFailed if the import exceeds a limit.
        """
        with self.lock:
            if self.closed:
                raise PluginError(f"the processes of {self.bundle.name} have been ended")
            worker = self.spare.pop(0) if self.spare else self._start()
            if self.paused:
                worker.resume()
            self.expected -= 1
            self._warm_ahead()
        if worker is not self.first or not self.described:
            worker.ready()
        return worker

    def pause_spare(self) -> None:
        """Stop the workers that wait, imports included, while hidden inputs are answered; until `resume_spare`.

        Two processes that run at the same moment can signal to each other through what the machine counts. Where several fits run
        at once they do so anyway, and nothing is stopped.
        """
        with self.lock:
            if self.config.at_once == 1:
                self.paused = True
                for worker in self.spare:
                    worker.pause()

    def resume_spare(self) -> None:
        """Let the workers run on, when the process that has answered is gone."""
        with self.lock:
            if self.paused:
                self.paused = False
                for worker in self.spare:
                    worker.resume()
                self._warm_ahead()

    def _warm_ahead(self) -> None:
        while len(self.spare) < min(self.expected, self.ahead) and not self.closed and not self.paused:
            self.spare.append(self._start())

    def _start(self) -> Worker:
        worker = Worker(self.bundle, self.config)
        self.workers.append(worker)
        return worker

    def close(self) -> None:
        with self.lock:
            self.closed = True
        for worker in self.workers:
            worker.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def printed(self) -> str:
        """End of the text that all workers have printed, at most 65536 characters."""
        return "".join(worker.log.text for worker in self.workers)[-MEBIBYTE // 16 :]
