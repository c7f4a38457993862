"""The architecture is CONTRIBUTING.md's picture: imports point down, packages stay in their rooms, files stay short."""

import ast
import functools
import pathlib
import re
import statistics
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
CODE = ROOT / "score_sde"
PICTURE = re.search(r"<!-- picture: layers -->\n```text\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S)[
    1
].splitlines()  # pyright: ignore[reportOptionalSubscript]
FREE_OF_JAX = {
    "cli.exporting", "cli.main", "cli.processes", "config", "data.account", "data.array_folder", "data.arrays",
    "data.beside", "data.cache", "data.cifar",
    "data.examples", "data.folder", "data.headers", "data.identity", "data.imagenet", "data.labels", "data.layouts",
    "data.npz", "data.pictures", "data.preparing", "data.ranges", "data.recognise", "data.records", "data.resolve",
    "data.rows", "data.sources", "data.spec", "data.splits", "data.telling", "data.tfrecord", "data.ways",
    "data.workers", "devices.meeting", "devices.memory", "errors", "evaluation", "loop.prefetch", "loop.schedule",
    "progress", "reporting.figures", "reporting.page", "reporting.records", "signals", "storage.files",
    "storage.images", "storage.locks", "storage.manifest", "storage.seals", "storage.workdir", "training.posthoc",
    "data.captions", "data.digit_pairs", "names",
}  # fmt: skip
"""Rooms and modules that run before the config is found valid, or where no device is."""


def read_picture(lines: list[str]) -> tuple[list[str], dict[str, set[str]]]:
    """The rooms from the top down, and the rooms by package; a line that begins with blanks goes on with its room's."""
    rooms, packages = [], {}
    for line in lines:
        names = re.match(r"[a-z]+(?:  [a-z]+)*(?=\s)", line)
        if names:
            own = names[0].split("  ")
            rooms += own
        if found := re.search(r"\[([^\]]*)\]", line):
            for package in found[1].split(", "):
                packages.setdefault(package, set()).update(own)
    return rooms, packages


ROOMS, PACKAGES = read_picture(PICTURE)


def path(module: str) -> pathlib.Path:
    place = CODE.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


def name(file: pathlib.Path) -> str:
    return ".".join(file.relative_to(CODE).with_suffix("").parts).removesuffix(".__init__")


MODULES = sorted({name(file) for file in CODE.rglob("*.py")} - {"__init__", "__main__"})


@functools.cache
def imports(module: str) -> frozenset[str]:
    found = set()
    for node in ast.walk(ast.parse(path(module).read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found.add(str(node.module))
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def ours(module: str) -> set[str]:
    """The modules of score_sde that it imports; of a room's own names, the files that have them."""
    found = {target.removeprefix("score_sde.") for target in imports(module) if target.startswith("score_sde.")}
    return found & set(MODULES)


def room(module: str) -> str:
    return module.split(".")[0]


def test_the_picture_has_every_room():
    assert set(ROOMS) == {room(module) for module in MODULES}
    assert len(ROOMS) == len(set(ROOMS))


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    above = {other for other in ours(module) if ROOMS.index(room(other)) < ROOMS.index(room(module))}
    assert not above, f"{module} imports {above} from above"
    if room(module) == "networks":
        assert {room(other) for other in ours(module)} <= {"names", "networks", "typing"}


def test_no_module_imports_itself_by_way_of_others():
    finished: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, f"a circle: {' -> '.join([*way[way.index(module) :], module])}"
        if module not in finished:
            for other in sorted(o for o in ours(module) if not path(o).name.startswith("__init__")):
                visit(other, (*way, module))
            finished.add(module)

    for module in MODULES:
        if path(module).name != "__init__.py":
            visit(module, ())


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_stay_in_their_rooms(package):
    users = {module for module in MODULES if any(target.split(".")[0] == package for target in imports(module))}
    assert {room(module) for module in users} <= PACKAGES[package]


def test_optax_orbax_and_pictures_have_one_file_or_two():
    only = {"optax": {"training.optimizer"}, "tensorboardX": {"loop.metrics"}}
    only["orbax"] = {"storage.checkpoint", "adapters.orbax_tree"}
    for package, expected in only.items():
        assert {m for m in MODULES if any(t.split(".")[0] == package for t in imports(m))} == expected


@pytest.mark.parametrize("module", [m for m in MODULES if m in FREE_OF_JAX or room(m) in FREE_OF_JAX])
def test_what_runs_before_validation_is_free_of_jax(module):
    heavy = {target for target in imports(module) if target.split(".")[0] in ("jax", "flax", "optax")}
    assert not heavy or module == "cli.main"


def test_main_imports_nothing_heavy():
    heavy = "{'jax', 'flax', 'optax', 'orbax', 'PIL', 'grain', 'tensorboardX', 'msgpack', 'safetensors', 'matplotlib'}"
    code = f"import sys, score_sde.cli.main; print(*sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def lengths() -> dict[str, int]:
    return {module: len(path(module).read_text().splitlines()) for module in MODULES}


def test_modules_stay_short():
    """No file over 330 lines but the table of fields; the median under 150."""
    assert {module for module, lines in lengths().items() if lines > 330} <= {"config.fields"}
    assert statistics.median(lines for module, lines in lengths().items() if path(module).name != "__init__.py") < 150


def test_functions_stay_short():
    """Of the bodies of all functions, docstrings aside, nine in ten have under 25 lines."""
    bodies = []
    for module in MODULES:
        for node in ast.walk(ast.parse(path(module).read_text())):
            if isinstance(node, ast.FunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                bodies.append(body[-1].end_lineno - body[0].lineno + 1 if body else 0)  # pyright: ignore[reportOptionalOperand]
    assert sorted(bodies)[int(0.9 * len(bodies))] < 25
