"""The public names: docs/api.md, `score_sde.__all__` and what type checkers read are one list, and all are documented.

A docstring says what its name means in a first sentence, the shapes of arrays, the unit of likelihoods, the errors that
its body raises, and, of the mathematics, the source. A method may take its docstring from the contract that it
fulfils, and what its class says need not be said again.
"""

import ast
import functools
import importlib
import importlib.util
import inspect
import pathlib
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

import score_sde
from score_sde import _MODULES as MODULES

MODULE_OF = {name: f"score_sde.{module}" for module, names in MODULES.items() for name in names.split()}
ROOT = pathlib.Path(__file__).parent.parent
API = (ROOT / "docs" / "api.md").read_text()
LISTED = re.findall(r"^- `(\w+)` \(`([\w.]+)`\): (.+)$", API, re.M)
ROOMS = {place.stem for place in (ROOT / "score_sde").iterdir() if not place.name.startswith("_")}
STAYING, MOVED, KEPT = (
    re.findall(r"^\| `([\w.]+)` \| (.+) \|$", table, re.M) for table in re.split(r"^\|---\|---\|$", API, flags=re.M)[1:]
)

SHAPE = re.compile(r"\[(?!0,|-1,|t_min)[^\]\n]*\]|[Ss]hape (?:and dtype )?of")
ARRAYS = re.compile(r"\b(Array|Keys|ndarray|Source|Vectors)\b")
LIKELIHOOD = re.compile(r"log_?prob|log_?likelihood|_bound|Bound|bits|nats", re.I)
SOURCE = re.compile(r"[A-Z][\w'-]+(?: et al\.| & [A-Z]\w+|, [A-Z][\w ]+ & [A-Z]\w+)? (?:19|20)\d\d")
MATHEMATICS = {"sde", "scores", "objectives", "solvers", "likelihood", "networks"}
NOT_PUBLISHED = {
    "AdaptiveSolver", "Corrector", "Deterministic", "Divergence", "Multistep", "NoisySolver", "OneStepSolver",
    "Samples", "Solver", "Step", "gaussian", "mixture", "sample", "trajectory",
}  # fmt: skip
"""Of the mathematics: contracts, what holds numbers, the march over a grid, and laws of every textbook."""


class Documented(NamedTuple):
    """One public name or member of a public class, where its body is, and what is said of it."""

    name: str
    node: ast.FunctionDef | ast.ClassDef
    module: str
    own: str
    """Its docstring, or that of the contract which it fulfils."""

    whole: str
    """Its class's too."""


@functools.cache
def definitions(module: str) -> dict[str, ast.FunctionDef | ast.ClassDef]:
    """Functions and classes by qualified name."""
    found = {}

    def visit(node: ast.Module | ast.ClassDef, prefix: str) -> None:
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef | ast.ClassDef):
                found[prefix + inner.name] = inner
            if isinstance(inner, ast.ClassDef):
                visit(inner, f"{prefix}{inner.name}.")

    visit(ast.parse(inspect.getsource(importlib.import_module(module))), "")
    return found


def own_classes(kind: type) -> list[type]:
    return [base for base in kind.__mro__ if base.__module__.startswith("score_sde")]


def said_of(node: ast.FunctionDef | ast.ClassDef) -> str:
    """A docstring; of a class its fields' too."""
    fields = node.body[1:] if isinstance(node, ast.ClassDef) else []
    strings = [n.value.value for n in fields if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    return "\n\n".join([ast.get_docstring(node) or "", *map(str, strings)])


def members(name: str, kind: type) -> Iterator[Documented]:
    """What a public class has of methods and properties, wherever they are inherited from."""
    bases = own_classes(kind)
    whole = "\n\n".join(said_of(definitions(base.__module__)[base.__qualname__]) for base in bases)
    found = {}
    for base in bases:
        for member, node in definitions(base.__module__).items():
            owner, _, member = member.rpartition(".")
            if owner == base.__qualname__ and (not member.startswith("_") or member in ("__init__", "__call__")):
                found.setdefault(member, []).append((base, node))
    for member, places in found.items():
        own = next((said for _, node in places if (said := ast.get_docstring(node))), "")
        if member.startswith("__") or any(member in inspect.get_annotations(base) for base in bases):
            own = own or whole  # the class speaks of its calls, and a contract of what is a property here
        base, node = places[0]
        yield Documented(f"{name}.{member}", node, base.__module__, own, f"{own}\n\n{whole}")


def documented() -> Iterator[Documented]:
    for name, module in MODULE_OF.items():
        if node := definitions(module).get(name):
            said = said_of(node)
            yield Documented(name, node, module, said, said)
            if isinstance(node, ast.ClassDef):
                yield from members(name, getattr(score_sde, name))


DOCUMENTED = list(documented())


def annotations(node: ast.FunctionDef | ast.ClassDef) -> str:
    """Those of parameters and result, or of fields that are no functions."""
    if isinstance(node, ast.ClassDef):
        found = [ast.unparse(n.annotation) for n in node.body if isinstance(n, ast.AnnAssign)]
        return " ".join(a for a in found if not a.startswith("Callable"))
    a = node.args
    found = [arg.annotation for arg in (*a.posonlyargs, *a.args, *a.kwonlyargs)] + [node.returns]
    return " ".join(ast.unparse(annotation) for annotation in found if annotation)


def raised(module: str, name: str, seen: frozenset[str] = frozenset()) -> set[str]:
    """The errors that a function's body names, and those of the module's private functions that it calls."""
    node, found = definitions(module).get(name), set()
    if node is None or name in seen:
        return found
    owner = name.rpartition(".")[0]
    for inner in ast.walk(node):
        if isinstance(inner, ast.Raise) and isinstance(inner.exc, ast.Call):
            found |= {ast.unparse(inner.exc.func)}
        if not isinstance(inner, ast.Call):
            continue
        called = ast.unparse(inner.func)
        if called in ("require", "require_increasing"):
            found.add("UsageError")
        elif called.startswith(("_", "self._")):
            found |= raised(module, called.replace("self", owner), seen | {name})
    return {error for error in found if re.fullmatch(r"[A-Z]\w+", error)}


def at(path: str) -> Any:
    """The module, or the attribute of one, that a dotted path names: of a class a field counts; LookupError if gone."""
    parts = path.split(".")
    found, name = importlib.import_module(parts[0]), parts[0]
    for part in parts[1:]:
        name = f"{name}.{part}"
        if isinstance(found, types.ModuleType) and hasattr(found, "__path__") and importlib.util.find_spec(name):
            found = importlib.import_module(name)
        elif isinstance(found, type) and any(part in inspect.get_annotations(base) for base in found.__mro__):
            found = part
        elif not hasattr(found, part):
            raise LookupError(name)
        else:
            found = getattr(found, part)
    return found


def test_the_page_the_package_and_type_checkers_have_the_same_names():
    assert len(LISTED) == len({name for name, *_ in LISTED})
    assert {name: f"score_sde.{module}" for name, module, _ in LISTED} == MODULE_OF
    assert set(score_sde.__all__) == set(MODULE_OF) <= set(dir(score_sde))
    assert sum(len(names.split()) for names in MODULES.values()) == len(MODULE_OF)
    checked = next(node for node in ast.parse(inspect.getsource(score_sde)).body if isinstance(node, ast.If))
    pairs = {alias.name: node.module for node in checked.body for alias in node.names}  # pyright: ignore
    assert pairs == MODULE_OF


def test_the_page_groups_by_room_one_line_each():
    for part in re.split(r"^## ", API, flags=re.M)[1:]:
        room = part.split(":")[0]
        for _, module, line in re.findall(r"^- `(\w+)` \(`([\w.]+)`\): (.+)$", part, re.M):
            assert module.split(".")[0] == room
            assert line.endswith(".")


@pytest.mark.parametrize("name", MODULE_OF)
def test_a_name_is_the_object_of_its_module(name):
    assert getattr(score_sde, name) is getattr(importlib.import_module(MODULE_OF[name]), name)
    assert name not in ROOMS


def test_an_unknown_name_is_an_error_as_of_any_module():
    with pytest.raises(AttributeError, match="module 'score_sde' has no attribute 'sampel'"):
        score_sde.sampel  # noqa: B018
    with pytest.raises(ImportError):
        exec("from score_sde import sampel")


def test_importing_the_package_loads_nothing_but_the_standard_library():
    code = "import sys; old = set(sys.modules); import score_sde; print(*set(sys.modules) - old)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {module.split(".")[0] for module in loaded} <= {"score_sde"} | sys.stdlib_module_names
    assert not {module for module in loaded if module.startswith("score_sde.")}


def test_names_that_stay_in_their_rooms_are_there():
    for module, text in STAYING:
        for name in re.findall(r"`(\w+)`", text):
            assert name in MODULE_OF or hasattr(importlib.import_module(f"score_sde.{module}"), name), (module, name)


@pytest.mark.parametrize(("old", "new"), [(old, new.strip("`")) for old, new in MOVED])
def test_an_old_path_is_gone_and_the_new_one_is_there(old, new):
    with pytest.raises(ImportError):
        importlib.import_module(old)
    if old.removeprefix("score_sde.") not in MODULE_OF:  # sde_bound was a module's name, and is its function's
        with pytest.raises(LookupError):
            at(old)
    at(new)


def test_modules_that_became_rooms_have_their_paths():
    assert {old for old, _ in KEPT} == {f"score_sde.{name}" for name in ("config", "experiment", "likelihood", "sde")}
    for old, places in KEPT:
        for place in re.findall(r"`([\w.]+)`", places):
            assert place.startswith(old)
            at(place)


@pytest.mark.parametrize("found", DOCUMENTED, ids=lambda found: found.name)
def test_docstrings_have_their_form(found):
    first = found.own.split("\n\n")[0]
    assert re.search(r"\.(\s|$)", first), "a first sentence, with its period"
    if ARRAYS.search(annotations(found.node)):
        assert SHAPE.search(found.whole), "shapes, such as [B, ...]"
    if LIKELIHOOD.search(found.name.split(".")[-1]) and not found.name.endswith("__"):
        assert re.search(r"\b(nats|bits)\b", found.whole), "the unit of a likelihood"
    if isinstance(found.node, ast.FunctionDef):
        place = next(name for name, node in definitions(found.module).items() if node is found.node)
        for error in raised(found.module, place):
            assert error in found.whole, f"that it raises {error}"
    if found.name in MODULE_OF and found.module.split(".")[1] in MATHEMATICS and found.name not in NOT_PUBLISHED:
        head = importlib.import_module(found.module).__doc__ or ""
        assert SOURCE.search(" ".join(f"{found.own} {head}".split())), "the source: author and year"
