"""Torch without its compiler, until somebody asks for that: it takes as long to import as the rest of torch.

`torch.optim` imports ``torch._dynamo`` in every step, to say that a graph would break there. Where nothing is compiled no graph is.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

DYNAMO = "torch._dynamo"


class LazyDynamo(ModuleType):
    """Stands for the compiler's front end, and makes room for it as soon as it is asked for anything else."""

    def __init__(self) -> None:
        super().__init__(DYNAMO, __doc__)

    @staticmethod
    def graph_break(*args: Any, **kwargs: Any) -> None:
        """No graph, no break."""

    @staticmethod
    def disable(function: Any = None, *args: Any, **kwargs: Any) -> Any:
        """A function that nothing compiles as yet; the real thing's word on it counts once that is there."""
        if function is None:  # a decorator that was called: somebody's own, who thinks of compiling
            return load_dynamo().disable(None, *args, **kwargs)

        def called(*its: Any, **more: Any) -> Any:
            real = sys.modules[DYNAMO]
            if isinstance(real, LazyDynamo):
                return function(*its, **more)
            return real.disable(function, *args, **kwargs)(*its, **more)

        return called

    def __getattr__(self, name: str) -> Any:
        return getattr(load_dynamo(), name)


def load_dynamo() -> ModuleType:
    """The real module, in the stand-in's place."""
    if isinstance(sys.modules.get(DYNAMO), LazyDynamo):
        del sys.modules[DYNAMO]
    return importlib.import_module(DYNAMO)


def defer_dynamo() -> None:
    """Put the stand-in where the compiler would be imported, unless it has been."""
    torch = sys.modules.get("torch")
    if torch is not None and DYNAMO not in sys.modules:
        torch._dynamo = sys.modules[DYNAMO] = LazyDynamo()  # type: ignore[attr-defined]
