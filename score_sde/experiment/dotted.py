"""Functions of yours, by their dotted paths in fields."""

import importlib
from collections.abc import Callable
from typing import Any

from score_sde.errors import UsageError, require


def function(field: str, path: str, remedy: str) -> Callable[..., Any]:
    """The function that a field's module.function or module:function names; UsageError where there is none.

    remedy: how the error ends, in words.
    """
    module, _, name = path.rpartition(":" if ":" in path else ".")
    require(module.strip(".") and name, f"{field}={path!r} is unknown: {remedy}")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever the module's own lines raise
        raise UsageError(f"{field}={path!r} cannot be imported ({error}): {remedy}") from error
    require(callable(found), f"{field}={path!r} is a {type(found).__name__}: {remedy}")
    return found
