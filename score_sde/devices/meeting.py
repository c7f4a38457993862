"""How the processes of a run find one another before jax is told of them, which answers every failure by an abort.

Process 0 presides at the coordinator's address until all have come, and tells all the same; then jax takes the address.
"""

import contextlib
import errno
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from score_sde.errors import UsageError

GREETING = b"score-sde: the processes of a run meet here\n"
SLOW = 10.0
"""Seconds after which a process says what it waits for, and for which those who are late hear of a failure."""
_PAUSE, _ANSWER = 0.2, 5.0
_STRANGER = "what answers there is no process 0 that waits for others"

_tried = threading.Event()


class Hello(NamedTuple):
    """What a process says of itself. ended: why it will not take part, if so."""

    process: int
    processes: int
    ended: str = ""


def split(address: str) -> tuple[str, int]:
    """Host and port of host:port, the host of [::1]:1234 without its brackets; UsageError where one is missing."""
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit() and 0 < int(port) < 65536):
        raise UsageError(
            f"--coordinator={address} is not host:port: name the host of process 0 and a free port of it, from 1 to"
            " 65535, such as host0:1234"
        )
    return host.strip("[]"), int(port)


def meet(address: str, hello: Hello, timeout: float) -> None:
    """Wait at the address, which is process 0's, until all processes have come.

    Raises UsageError, the same in all processes, where one is missing after so many seconds, has ended, is there twice
    or was told of another number of processes.
    """
    _tried.set()
    (_, port), began, table, said = split(address), time.monotonic(), None, False
    while True:
        reasons = []
        if hello.process == 0 and table is None:
            try:
                table = _Table(port, hello.processes, began, timeout)
            except OSError as error:
                reasons = [f"port {port} of this machine: {_reason(error)}"]
        try:
            verdict = _attend(address, hello, began + timeout)
            break
        except (OSError, ValueError) as error:
            reasons.append(f"{address}: {_reason(error)}")
        waited = time.monotonic() - began
        if waited > timeout:
            raise UsageError(_missed(address, hello, timeout, "; ".join(reasons)))
        if waited > SLOW and not said:
            said = True
            print(f"waiting for process 0, {timeout:.0f} s at most ({'; '.join(reasons)}) ...", file=sys.stderr)
        time.sleep(_PAUSE)
    if table is not None:
        table.cleared.wait()
    if verdict:
        raise UsageError(verdict)


def excuse(address: str, hello: Hello) -> None:
    """Tell the others, if they come within seconds, why this process has ended; nothing once it has tried to meet."""
    if not _tried.is_set():
        with contextlib.suppress(UsageError):
            meet(address, hello, 1.5 * SLOW)


def judge(hellos: Sequence[Hello], count: int) -> str:
    """What is wrong with those who came to process 0, which was told of `count` processes; empty where nothing is."""
    for index, _, ended in hellos:
        if ended:
            return f"process {index} of {count} has ended before the run began: {ended}"
    for index, other, _ in hellos:
        if other != count:
            return f"--num_processes is {other} in process {index} and {count} in process 0: give all the same number"
    for index, times in Counter(hello.process for hello in hellos).items():
        if times > 1:
            return f"--process_id={index} was given to {times} processes: give each its own, from 0 to {count - 1}"
    return ""


class _Table:
    """Process 0's place at the address: a thread that hears all who come, and in the end tells all the same.

    cleared: set when the address is free again. OSError where the port is taken.
    """

    def __init__(self, port: int, count: int, began: float, timeout: float) -> None:
        self._listener = _listener(port)
        self._listener.settimeout(_PAUSE)
        self._count, self._began, self._timeout = count, began, timeout
        self._present: list[tuple[socket.socket, Hello]] = []
        self.cleared = threading.Event()
        threading.Thread(target=self._preside, name="meeting", daemon=True).start()

    def _preside(self) -> None:
        until, wrong_since = self._began + self._timeout, None
        while time.monotonic() < until and len(self._present) < self._count:
            self._receive()
            self._present = [(connection, hello) for connection, hello in self._present if _still_there(connection)]
            wrong = judge([hello for _, hello in self._present], self._count)
            wrong_since = (wrong_since or time.monotonic()) if wrong else None
            if wrong_since is not None and time.monotonic() > wrong_since + SLOW:
                break
        self._receive()  # one too many may be waiting
        self._listener.close()
        verdict = json.dumps(self._verdict()).encode() + b"\n"
        for connection, _ in self._present:
            with contextlib.suppress(OSError), connection:
                connection.settimeout(_ANSWER)
                connection.sendall(verdict)
        self.cleared.set()

    def _receive(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # nobody yet
            return
        try:
            connection.settimeout(_ANSWER)
            connection.sendall(GREETING)
            index, count, ended = json.loads(_line(connection))
            self._present.append((connection, Hello(int(index), int(count), str(ended))))
        except (OSError, ValueError, TypeError):  # somebody who is no process of ours
            connection.close()

    def _verdict(self) -> str:
        hellos = [hello for _, hello in self._present]
        absent = sorted(set(range(self._count)) - {hello.process for hello in hellos})
        missing = (
            f"process {', '.join(map(str, absent))} of {self._count} has not come within {self._timeout:.0f} s: see"
            " why it ended, start it with the same --coordinator and --num_processes, or raise --connect_timeout"
        )
        return judge(hellos, self._count) or (missing if absent else "")


def _attend(address: str, hello: Hello, until: float) -> str:
    """Say hello to process 0 and wait for what it tells all: empty, or what is wrong."""
    host, port = split(address)
    left = lambda: max(until - time.monotonic(), _PAUSE)
    with socket.create_connection((host, port), timeout=min(_ANSWER, left())) as connection:
        if _line(connection) != GREETING:
            raise ConnectionError(_STRANGER)
        connection.sendall(json.dumps(hello).encode() + b"\n")
        connection.settimeout(left() + _ANSWER)
        return json.loads(_line(connection))


def _line(connection: socket.socket) -> bytes:
    """What comes until the line ends, 64 KB at most; ConnectionError where the connection ends before."""
    line = connection.makefile("rb").readline(1 << 16)
    if not line.endswith(b"\n"):
        raise ConnectionError(_STRANGER)
    return line


def _listener(port: int) -> socket.socket:
    """A socket where jax's own will be: on all addresses of the machine."""
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        except OSError as error:
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                raise
    return socket.create_server(("", port))


def _still_there(connection: socket.socket) -> bool:
    """Whether the other end waits; a connection that it has left is closed."""
    connection.settimeout(0)
    try:
        waits = connection.recv(1) != b""  # it says nothing any more
    except BlockingIOError:
        return True
    except OSError:
        waits = False
    if not waits:
        connection.close()
    return waits


def _missed(address: str, hello: Hello, timeout: float, why: str) -> str:
    if hello.process == 0:
        return (
            f"process 0 of {hello.processes} could not receive the others at --coordinator={address} within"
            f" {timeout:.0f} s ({why}): name the host of process 0 and a free port of it, the same in all processes"
        )
    return (
        f"process {hello.process} of {hello.processes} has not met process 0 at --coordinator={address} within"
        f" {timeout:.0f} s ({why}): start process 0 there, give all processes the same --coordinator, or raise"
        " --connect_timeout"
    )


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, socket.gaierror):  # its numbers are its own
        return str(error.strerror)
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
