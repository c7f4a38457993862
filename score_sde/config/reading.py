"""Reading configs: config files, flat names, what differs between two, and what to say of a misspelt name or value."""

import difflib
import pathlib
import runpy
import sys
import traceback
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ml_collections import ConfigDict

from score_sde.config.fields import FREE_ON_RESUME, ROWS, SCHEMA, Config
from score_sde.errors import UsageError, require

TYPES = {
    int: "an integer",
    float: "a finite number",
    bool: "True or False",
    str: "a string",
}
ELEMENTS = {int: "integers", float: "finite numbers", str: "strings"}
"""Those of a tuple, which are all of the type of the default's."""

_PACKAGE = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"
"""The config files that come with the program: in the installed package, or beside it in a clone."""


def element(name: str) -> type:
    """The type of a tuple field's elements."""
    return ROWS[name].element or type(SCHEMA[name][0])


def flatten(config: Any, prefix: str = "") -> dict[str, Any]:
    """{"section.field": value} of a ConfigDict or nested dict; lists become tuples, as JSON loses the difference."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, dict | ConfigDict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = tuple(value) if isinstance(value, list) else value
    return flat


def nearest(name: Any, names: Any, prefix: str = "") -> str:
    """A "did you mean" for a misspelt name, or the list of what there is."""
    close = difflib.get_close_matches(str(name), list(names), n=1)
    if close:
        return f"did you mean {prefix}{close[0]}?"
    return f"choose from {', '.join(prefix + n for n in names)}" if len(names) < 60 else "see --help for all there are"


def require_field(name: str, prefix: str = "config.") -> None:
    """UsageError unless the name is a field's; the prefix is what the user writes before it."""
    if name not in SCHEMA:  # the suggestion takes longer than all other checks
        raise UsageError(f"{prefix}{name} is not a config field: {nearest(name, SCHEMA, prefix)}")


def wrong_type(name: str, value: Any) -> str:
    """The complaint about a value that is not of its field's type."""
    example = SCHEMA[name]
    kind = f"a tuple of {ELEMENTS[element(name)]}" if isinstance(example, tuple) else TYPES[type(example)]
    return f"{name}={value!r} is of the wrong type: give it {kind}, such as {example!r}"


def differing_fields(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Names of the fields that differ between two flat configs and that resuming may not change.

    What a run started from need not be said again.
    """
    names = {n for n in old.keys() | new.keys() if n not in FREE_ON_RESUME and old.get(n) != new.get(n)}
    return sorted(names - {"training.start_from"} if new.get("training.start_from") == "" else names)


def find(name: str) -> str:
    """The config file of a path, or else of a name below configs/, such as digits; UsageError where there is none."""
    if pathlib.Path(name).is_file():
        return name
    wanted = pathlib.PurePosixPath(name).as_posix().removeprefix("configs/").removesuffix(".py")
    names = {file.relative_to(CONFIGS).with_suffix("").as_posix(): file for file in CONFIGS.rglob("*.py")}
    if wanted not in names:
        close = difflib.get_close_matches(wanted, names, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"choose one of {CONFIGS}, such as configs/digits.py"
        raise UsageError(f"--config={name} is not a file, nor a config that comes with this program: {remedy}")
    return str(names[wanted])


def load(name: str) -> Config:
    """What the get_config of a config file returns, by its path or its name below configs/, such as digits.

    Raises UsageError for anything that goes wrong in there.
    """
    path = find(name)
    try:
        with _configs_importable(path):
            get_config = runpy.run_path(path).get("get_config")
            require(callable(get_config), f"--config={path} has no get_config(): write one, as in {CONFIGS}/digits.py")
            config = get_config()  # pyright: ignore[reportOptionalCall]
    except UsageError:
        raise
    except Exception as error:  # a config file is a program: it may raise anything
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
        line = error.lineno if isinstance(error, SyntaxError) else (lines or ["?"])[-1]
        raise UsageError(f"mend line {line} of {path}: {type(error).__name__}: {one_line(error)}") from None
    kind = type(config).__name__
    require(isinstance(config, ConfigDict), f"get_config() of {path} returned a {kind}: return a ConfigDict")
    return config


@contextmanager
def _configs_importable(path: str) -> Iterator[None]:
    """While a config file runs, `configs` is the directory of that name above it, the working one's, then our own.

    So its `from configs.published import ...` works wherever both lie, and whatever else is called configs.
    """
    above = [parent for parent in pathlib.Path(path).resolve().parents if parent.name == "configs"]
    ours = lambda: {name: module for name, module in sys.modules.items() if name.split(".")[0] == "configs"}
    before, module = ours(), types.ModuleType("configs")
    module.__path__ = [str(folder) for folder in (*above[:1], pathlib.Path("configs").resolve(), CONFIGS)]
    for name in before:
        del sys.modules[name]
    sys.modules["configs"] = module
    try:
        yield
    finally:
        for name in ours():
            del sys.modules[name]
        sys.modules.update(before)


def one_line(error: BaseException) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split())


def require_defaults(config: Config, names: Sequence[str], why: str) -> None:
    """UsageError for a field of these that has another value than its default, which means nothing to the system.

    why: what the system does instead, the end of a sentence.
    """
    for name in names:
        section, _, field = name.partition(".")
        require(
            config[section][field] == SCHEMA[name],
            f"{name}={config[section][field]!r} has no meaning for system.name={config.system.name!r}, {why}: leave it"
            f" at {SCHEMA[name]!r}",
        )


def require_nothing_drawn(config: Config) -> None:
    """UsageError for samples in training, of a system that draws none."""
    for name, value in (("logging.samples_every", 0), ("evaluation.final_samples", 0)):
        section, field = name.split(".")
        require(
            config[section][field] == value,
            f"{name}={config[section][field]} has no effect on system.name={config.system.name!r}, which draws nothing:"
            f" set it to {value}",
        )
