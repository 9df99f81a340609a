"""Public names of version 0.1. They work for one more release, with a warning; then this file and all imports of it are removed."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

Class = TypeVar("Class", bound=type)

KIND_METHODS: Mapping[str, str] = {"forms": "output_specs", "questions": "queries", "remarks": "flags"}
SUBMISSION_METHODS: Mapping[str, str] = {"heeds_budget": "supports_budget"}


def warn(found: str, instead: str, stacklevel: int = 3) -> None:
    """Warn that the old name ``found`` is in use where ``instead`` should be written.

    With ``stacklevel`` 3 the warning points at the caller of the function that calls `warn`.
    """
    warnings.warn(f"{found} is a name of Bakeoff 0.1; write {instead} instead", DeprecationWarning, stacklevel)


class OldName:
    """Descriptor that gives a method under its old name, with a warning.

    It stands in the same class as the method under its new name, so that ``super()`` finds both alike.
    """

    def __init__(self, found: str, instead: str, value: Any) -> None:
        self.found, self.instead, self.value = found, instead, value

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        warn(self.found, self.instead)
        return self.value.__get__(instance, owner)


def adopt_methods(cls: type, names: Mapping[str, str]) -> None:
    """Let renamed methods of a class be defined and called by both names. ``names`` maps old names to new ones.

    A method that ``cls`` or a mixin defines under an old name becomes the method of the new name, with a warning. Each method under
    a new name gets its old name too. Called from ``__init_subclass__``, before `abc.ABCMeta` looks for abstract methods.
    """
    for old, new in names.items():
        for base in cls.__mro__:
            if new in vars(base):
                break
            value = vars(base).get(old)
            if callable(value) or isinstance(value, (classmethod, staticmethod)):
                warn(f"{base.__qualname__}.{old}", f"def {new}", stacklevel=5)
                setattr(cls, new, value)
                break
        if new in vars(cls):
            setattr(cls, old, OldName(f"{cls.__qualname__}.{old}", new, vars(cls)[new]))


def renamed_methods(names: Mapping[str, str]) -> Callable[[Class], Class]:
    """Return a decorator of a base class that also gives its methods their old names. ``names`` maps old names to new ones."""

    def decorate(cls: Class) -> Class:
        adopt_methods(cls, names)
        return cls

    return decorate


def renamed_field(old: str, new: str) -> Callable[[Class], Class]:
    """Return a decorator of a dataclass that accepts and shows the field ``new`` under the name ``old`` too, with a warning.

    If both keywords are given, the old one wins: `dataclasses.replace` passes the present value on under the new name.
    """

    def decorate(cls: Class) -> Class:
        init: Callable[..., None] = vars(cls)["__init__"]
        found = f"{cls.__name__}.{old}"

        @functools.wraps(init)
        def take_both(self: object, *args: Any, **given: Any) -> None:
            if old in given:
                warn(f"{cls.__name__}({old}=...)", f"{new}=...")
                given[new] = given.pop(old)
            init(self, *args, **given)

        def show(self: object) -> Any:
            warn(found, new)
            return getattr(self, new)

        setattr(cls, "__init__", take_both)  # noqa: B010, mypy refuses the assignment
        setattr(cls, old, property(show))
        return cls

    return decorate


def module_attribute(module: str, name: str, output_spec: type | None) -> Any:
    """Return ``output_spec``, the class `OutputSpec`, if ``name`` is its old name, "Form", and warn. Else raise AttributeError."""
    if name != "Form":
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warn(f"{module}.Form", "OutputSpec", stacklevel=4)
    return output_spec
