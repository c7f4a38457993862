"""The table of fields in words: what --help prints, and docs/config.md.

python -m score_sde.config.guide writes docs/config.md anew.
"""

import pathlib
import textwrap
from collections.abc import Iterator

from score_sde.config.fields import FIELDS, Field
from score_sde.config.reading import nearest
from score_sde.errors import require

WIDTH = 110

INTRODUCTION = """\
# Every field of the configuration

A config file changes what is different about it (`configs/digits.py` is short); on the command line a field is
`--config.<section>.<field>=value`. `python launch.py --help sampling` shows one section. Of a run that is resumed,
fields marked *free* may change. This page is made from the table in
[score_sde/config/fields.py](../score_sde/config/fields.py) by `python -m score_sde.config.guide`.
"""


def readers(field: Field) -> str:
    """The networks that read a field of `network`, where not all do."""
    return f" [{', '.join(field.networks)}]" if field.networks else ""


def help_lines(section: str | None = None) -> Iterator[str]:
    """Every field with default, meaning and choices, or those of one section; UsageError for an unknown one."""
    names = [name or "seed" for name in FIELDS]
    require(section is None or section in names, f"--help {section} is unknown: {nearest(section, names)}")
    for name, found in FIELDS.items():
        if section not in (None, name or "seed"):
            continue
        yield f"{name}: {found.meaning}" if name else found.meaning
        for n, field in found.fields.items():
            yield f"  --config.{f'{name}.' if name else ''}{n}={field.default!r}"
            words = f"{field.meaning}{readers(field)}" + (f"; {field.rule.words}" if field.rule.words else "")
            yield from textwrap.wrap(words, WIDTH - 8, initial_indent=" " * 8, subsequent_indent=" " * 8)
        yield ""


def markdown() -> str:
    """The whole of docs/config.md."""
    parts = [INTRODUCTION]
    for name, section in FIELDS.items():
        parts.append(f"## {name or 'The run'}\n\n{section.meaning[0].upper()}{section.meaning[1:]}.\n")
        rows = ["| field | default | meaning | values | |", "|---|---|---|---|---|"]
        for n, field in section.fields.items():
            values = field.rule.words.replace(" | ", ", ").replace("|", "\\|")
            meaning = f"{field.meaning}{readers(field)}".replace("|", "\\|")
            rows.append(f"| `{n}` | `{field.default!r}` | {meaning} | {values} | {'*free*' if field.free else ''} |")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    pathlib.Path("docs/config.md").write_text(markdown())
