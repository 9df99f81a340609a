"""How a submission's process is started: which tier of isolation there is, and the command and environment that give it.

One tier is here: "process", a process group of its own in a scratch folder of its own, without the parent's environment.
Asking for more than there is raises; it never falls back in silence.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from harness.contract import UsageError

PASSED_ON = (
    "PATH",
    "PYTHONPATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
    "CUDA_HOME",
    "XDG_CACHE_HOME",
)
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "TBB_NUM_THREADS",
)


@dataclass(frozen=True)
class Isolation:
    """A tier, chosen. ``name`` is what rows record."""

    name: str = "process"

    def command(self, arguments: list[str]) -> list[str]:
        """The command line that runs a module of ours. ``-P``: the working folder's files shadow no import."""
        return [sys.executable, "-P", "-m", *arguments]

    def environment(self, scratch: Path, threads: int) -> dict[str, str]:
        """Few variables, no secrets of the parent's; a home that is the scratch folder; threads pinned."""
        kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        fixed = {
            # torch must count GPUs through the driver's library: to ask CUDA before a fork breaks CUDA in every fork.
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
            "HOME": str(scratch),
            "TMPDIR": str(scratch),
            "KERAS_BACKEND": "torch",
            "KERAS_HOME": str(scratch),
            "MPLCONFIGDIR": str(scratch),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",
            "TOKENIZERS_PARALLELISM": "false",
        }
        return kept | fixed | {name: str(threads) for name in THREAD_VARIABLES}


def choose(wanted: str) -> Isolation:
    """The tier for ``auto``, ``process`` or ``sandbox``. Raises UsageError for one that is not to be had."""
    if wanted in ("auto", "process"):
        return Isolation()
    if wanted == "sandbox":
        raise UsageError(
            "isolation 'sandbox' is not to be had in this version; use --isolation process for code that you trust"
        )
    raise UsageError(f"isolation should be auto, sandbox or process; it is {wanted!r}")
