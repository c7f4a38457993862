"""One self-contained HTML page: text, tables and figures, nothing that is fetched from elsewhere."""

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

STYLE = """
:root { color-scheme: light dark;
  --text: #1d1d1f; --back: #fbfbf9; --quiet: #62625f; --line: #dcdcd6; --link: #0b63b5; }
@media (prefers-color-scheme: dark) {
  :root { --text: #e6e6e3; --back: #171718; --quiet: #a3a39e; --line: #39393c; --link: #7bb8f2; }
}
body { margin: 0 auto; padding: 1.2rem; max-width: 62rem; color: var(--text); background: var(--back);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", sans-serif; }
h1 { font-size: 1.7rem; margin: 0.4rem 0; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 0.6rem; border-top: 1px solid var(--line); padding-top: 1.2rem; }
a { color: var(--link); }
nav a { margin-right: 1em; white-space: nowrap; }
figure { margin: 0; }
.wide { overflow-x: auto; }
figure img { display: block; width: 100%; min-width: 38rem; height: auto; background: white; border-radius: 6px;
  border: 1px solid var(--line); box-sizing: border-box; }
figcaption, .quiet { color: var(--quiet); margin: 0.6rem 0; max-width: 48rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.92rem; }
td:first-child { white-space: nowrap; }
th, td { text-align: left; padding: 0.25rem 1rem 0.25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
code { font-size: 0.92em; overflow-wrap: anywhere; }
.changed { font-weight: 600; }
details { margin: 0.6rem 0; }
summary { cursor: pointer; }
"""


class Table(NamedTuple):
    """Cells as text, the first row a heading; rows whose number (from 0, the heading not counted) stands out."""

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    bold: frozenset[int] = frozenset()


class Section(NamedTuple):
    """A part of the page: a figure by its PNG's name and bytes, its caption, a table, a note in the figure's place."""

    title: str
    caption: str
    name: str = ""
    png: bytes = b""
    table: Table | None = None


def page(title: str, facts: Mapping[str, str], sections: Sequence[Section], folded: Mapping[str, Table]) -> str:
    """The whole page; `folded` tables stand at its end, closed until they are asked for."""
    links = " ".join(f'<a href="#{_anchor(s.title)}">{escape(s.title)}</a>' for s in sections)
    about = _table(Table((), [(name, value) for name, value in facts.items()]))
    parts = [_section(s) for s in sections]
    parts += [f"<details><summary>{escape(name)}</summary>{_table(table)}</details>" for name, table in folded.items()]
    body = "\n".join(parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<nav>{links}</nav>
{about}
{body}
</body>
</html>
"""


def _anchor(title: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in title.lower())


def _section(section: Section) -> str:
    parts = [f'<section id="{_anchor(section.title)}"><h2>{escape(section.title)}</h2>']
    caption = escape(section.caption)
    if section.png:
        data = base64.b64encode(section.png).decode()
        image = f'<img src="data:image/png;base64,{data}" alt="{escape(section.title)}">'
        parts.append(f'<figure><div class="wide">{image}</div><figcaption>{caption}</figcaption></figure>')
    else:
        parts.append(f'<p class="quiet">{caption}</p>')
    if section.table:
        parts.append(_table(section.table))
    return "\n".join([*parts, "</section>"])


def _table(table: Table) -> str:
    line = lambda tag, cells: "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells)
    head = f"<tr>{line('th', table.heading)}</tr>" if table.heading else ""
    rows = [
        f"<tr{' class=changed' if i in table.bold else ''}>{line('td', cells)}</tr>"
        for i, cells in enumerate(table.rows)
    ]
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'
