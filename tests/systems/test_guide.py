"""What docs/systems.md shows runs as it stands, and what it names exists."""

import pathlib
import re

import score_sde.systems.base as contract

ROOT = pathlib.Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "systems.md").read_text()


def test_the_code_runs_as_it_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        exec(block, names)
    assert list(tmp_path.rglob("config.json"))


def test_paths_links_and_methods_are_there():
    for path in re.findall(r"`((?:score_sde|tests|configs)/[\w/.]+)`", GUIDE):
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([\w./]+)(?:#[\w-]+)?\)", GUIDE):
        assert (ROOT / "docs" / link).exists(), link
    methods = {name for name in vars(contract.System) if not name.startswith("_")}
    assert methods <= set(re.findall(r"\w+", GUIDE))
