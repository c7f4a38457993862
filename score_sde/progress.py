"""How far long work is, with its rate and what remains: a bar on a terminal, a line now and then elsewhere."""

import sys
import time
from types import TracebackType

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Counts from `done` to `total` units; use it in a with statement."""

    def __init__(self, what: str, total: int, unit: str, done: int = 0, show: bool = True) -> None:
        self.what, self.total, self.unit = what, total, unit
        self._first, self._done = done, done
        self._start = self._last = time.monotonic()
        self._show = show
        terminal = show and sys.stderr.isatty()
        self._bar = tqdm(total=total, initial=done, unit=unit, desc=what) if terminal else None

    def update(self, count: int, note: str = "") -> None:
        """Advance by `count` units; the note stands behind the rate."""
        self._done += count
        if self._bar is not None:
            try:
                self._bar.update(count)
                if note:
                    self._bar.set_postfix_str(note)
            except OSError:  # the terminal is gone: the signal that tells of it may come a moment later
                self._bar, self._show = None, False
        elif self._show and time.monotonic() - self._last > SECONDS_BETWEEN_LINES:
            self._line(note)

    def _line(self, note: str) -> None:
        self._last = time.monotonic()
        rate = (self._done - self._first) / max(self._last - self._start, 1e-9)
        left = (self.total - self._done) / rate if rate else float("inf")
        text = f"{self.what} {self._done}/{self.total}, {rate:.3g} {self.unit}/s, {left:.0f} s left"
        print(text + (f", {note}" if note else ""), file=sys.stderr, flush=True)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.close()
