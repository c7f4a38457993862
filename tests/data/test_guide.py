"""What docs/data.md says of files, commands and code."""

import pathlib
import re
import shlex

import pytest

from score_sde.cli.main import parse
from score_sde.config import choices
from score_sde.config.validation import validate
from score_sde.data.cache import Cache
from score_sde.data.resolve import BUILDERS, BY_HAND, CROPS

ROOT = pathlib.Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "data.md").read_text()


def test_links_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", GUIDE):
        assert (ROOT / "docs" / target).exists(), target


@pytest.mark.parametrize("kind", ["bash", "text"])
def test_every_launch_command_parses_and_validates(kind, monkeypatch):
    monkeypatch.chdir(ROOT)
    blocks = "\n".join(re.findall(rf"```{kind}\n(.*?)```", GUIDE, re.DOTALL)).replace("\\\n", " ")
    commands = [line.split("launch.py")[1] for line in blocks.splitlines() if "launch.py" in line]
    assert len(commands) >= 2
    for command in commands:
        validate(parse(["launch.py", *shlex.split(command)]).config)


def test_the_code_prints_what_it_says(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    exec(compile(block, "data.md", "exec"), {"__name__": "guide"})
    said = re.search(r"\)  # (.*)", block)
    assert said and capsys.readouterr().out.strip() == said[1]


def test_the_tables_name_every_set_and_the_defaults():
    named = set(re.findall(r"`(\w+)`", GUIDE.split("## Arrays")[0]))
    assert set(choices("data.name")) <= named
    rows = GUIDE.split("## Published sets")[1].split("## Decoded")[0]
    for name in [*BUILDERS, *BY_HAND]:
        assert f"| `{name}` | " in rows
    for name, builder in BUILDERS.items():
        assert f"| `{name}` | `{builder}" in rows
    assert f"{CROPS['celeba']}x{CROPS['celeba']}" in rows
    assert f"{Cache().limit:.0f} by default" in GUIDE
