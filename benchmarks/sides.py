"""Programs that take turns: each a process of its own, computing only when told to, so that rounds alternate."""

import json
import subprocess
from typing import Any

from score_sde.errors import require


class Side:
    """A process that prints a line of JSON when it is ready, and one for every line that it reads."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ready = self._read()

    def round(self) -> dict[str, Any]:
        """What it says of one more round."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        require(line, "a program to be measured did not start, or ended: see above")
        return json.loads(line)
