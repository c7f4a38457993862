"""What a row of the table of fields is made of: a default, a meaning, and a rule that single values obey."""

from collections.abc import Callable
from typing import Any, NamedTuple


class Rule(NamedTuple):
    """What values are allowed: in words, as a test, and, where they are words themselves, which."""

    words: str
    holds: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


class Field(NamedTuple):
    """A field: its default, which also says its type, its meaning with the unit, and its rule.

    free: it may change when a run is resumed. element: the type of a tuple's elements, where the default is empty.
    networks: of the section `network`, those that read it; () for all.
    """

    default: Any
    meaning: str
    rule: Rule
    free: bool = False
    element: type | None = None
    networks: tuple[str, ...] = ()


class Section(NamedTuple):
    """Fields that belong together, by name, and what they are about."""

    meaning: str
    fields: dict[str, Field]


ANY = Rule("", lambda value: True)
AT_LEAST_ONE = Rule("at least 1", lambda value: value >= 1)
POSITIVE = Rule("positive", lambda value: value > 0)
NOT_NEGATIVE = Rule("0 or more", lambda value: value >= 0)
FRACTION = Rule("in [0, 1)", lambda value: 0 <= value < 1)
PROBABILITY = Rule("in [0, 1]", lambda value: 0 <= value <= 1)
WIDTHS = Rule("widths of 1 or more", lambda value: all(width >= 1 for width in value))
SEED = Rule(f"0 or more and below {2**32}", lambda value: 0 <= value < 2**32)


def one_of(*choices: str) -> Rule:
    """One of these words."""
    return Rule(" | ".join(choices), lambda value: value in choices, choices)


def some_of(*choices: str) -> Rule:
    """A tuple of these words; checked where it is known what is asked of all together."""
    return Rule(f"any of {', '.join(choices)}", lambda value: True, choices)


def field(default: Any, meaning: str, rule: Rule = ANY, **more: Any) -> Field:
    """A row of the table."""
    return Field(default, meaning, rule, **more)
