"""Matrices of all pairs in parts that fit into memory."""

from collections.abc import Iterator

MOST = 2**24
"""Numbers in a part; of float64 128 MiB."""


def blocks(rows: int, columns: int) -> Iterator[slice]:
    """Slices of the rows, each of which has at most MOST numbers in its columns, or is one row."""
    size = max(1, MOST // max(columns, 1))
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))
