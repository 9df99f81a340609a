"""Lazy import of torch's compiler, which takes as long as the import of the rest of torch.

`torch.optim` imports ``torch._dynamo`` in every step to mark graph breaks. Without compilation there is no graph: a stub is enough.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

DYNAMO = "torch._dynamo"


class LazyDynamo(ModuleType):
    """Stub of ``torch._dynamo`` with `graph_break` and `disable`. It loads the real module when any other attribute is used."""

    def __init__(self) -> None:
        super().__init__(DYNAMO, __doc__)

    @staticmethod
    def graph_break(*args: Any, **kwargs: Any) -> None:
        """Do nothing. The real function marks a break in the compiled graph; without compilation there is none."""

    @staticmethod
    def disable(function: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Return a wrapper that calls ``function`` directly, or through the real ``torch._dynamo.disable`` once that is loaded.

        Without a function, load the real module and return its decorator.
        """
        if function is None:  # used as a decorator with arguments, by code that may compile
            return load_dynamo().disable(None, *args, **kwargs)

        def called(*arguments: Any, **options: Any) -> Any:
            real = sys.modules[DYNAMO]
            if isinstance(real, LazyDynamo):
                return function(*arguments, **options)
            return real.disable(function, *args, **kwargs)(*arguments, **options)

        return called

    def __getattr__(self, name: str) -> Any:
        return getattr(load_dynamo(), name)


def load_dynamo() -> ModuleType:
    """Import the real ``torch._dynamo`` in place of the stub, and return the module."""
    if isinstance(sys.modules.get(DYNAMO), LazyDynamo):
        del sys.modules[DYNAMO]
    return importlib.import_module(DYNAMO)


def defer_dynamo() -> None:
    """Install `LazyDynamo` as ``torch._dynamo``, unless torch is not imported or its compiler is already loaded."""
    torch = sys.modules.get("torch")
    if torch is not None and DYNAMO not in sys.modules:
        torch._dynamo = sys.modules[DYNAMO] = LazyDynamo()  # type: ignore[attr-defined]
