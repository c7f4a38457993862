"""The exceptions for what a user can mend: a sentence with the offending value and the remedy."""


class UsageError(ValueError):
    """Bad input found before anything compiles; the command line prints it and exits with 2."""


class CheckpointError(Exception):
    """A checkpoint, or another file, could not be written, for want of space, say; the earlier ones are intact."""


class NotFinite(Exception):
    """Results are there, and not all of them are finite numbers: how many, of what, and what to try."""


def require(condition: object, message: str) -> None:
    """Raise UsageError(message) unless the condition holds."""
    if not condition:
        raise UsageError(message)


def require_increasing(low_name: str, low: float, high_name: str, high: float) -> None:
    """Require 0 < low < high; both bounds of a noise schedule obey this."""
    require(low > 0, f"{low_name}={low} must be positive: choose a small number above 0")
    require(low < high, f"{low_name}={low} must be below {high_name}={high}: raise {high_name} or lower {low_name}")
