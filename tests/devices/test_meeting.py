"""Processes find one another or learn why not: threads in their places, at real ports."""

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from score_sde.devices import meeting
from score_sde.devices.meeting import Hello, excuse, meet, split
from score_sde.errors import UsageError
from tests.processes import free_address


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(meeting, "SLOW", 0.5)
    monkeypatch.setattr(meeting, "_ANSWER", 0.5)


def heard(*hellos: Hello, timeout: float = 20, address: str = "", late: tuple[float, ...] = ()) -> list[str]:
    """What each of the processes is told; late: seconds after which each comes."""
    address = address or free_address()

    def one(k: int) -> str:
        time.sleep((late or (0,) * len(hellos))[k])
        try:
            meet(address, hellos[k], timeout)
        except UsageError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(hellos)) as pool:
        return list(pool.map(one, range(len(hellos))))


@pytest.mark.parametrize("late", [(0, 0.5, 0.2), (0.5, 0, 0)])
def test_all_meet_and_the_port_is_free_again(late):
    address = free_address()
    assert heard(*(Hello(i, 3) for i in range(3)), address=address, late=late) == ["", "", ""]
    socket.create_server(("", split(address)[1])).close()


def test_one_alone_meets_itself():
    assert heard(Hello(0, 1)) == [""]


def test_the_absent_are_named_to_all():
    said = heard(Hello(0, 4), Hello(2, 4), timeout=1)
    assert said[0] == said[1]
    assert said[0].startswith("process 1, 3 of 4 has not come within 1 s: ")


def test_without_process_0_nobody_waits_for_longer_than_asked():
    began = time.monotonic()
    (said,) = heard(Hello(1, 2), timeout=1)
    assert time.monotonic() - began < 3
    assert "has not met process 0 at --coordinator=127.0.0.1:" in said
    assert "Connection refused" in said


@pytest.mark.parametrize(
    ("hellos", "expected"),
    [
        ((Hello(0, 2), Hello(0, 2)), "--process_id=0 was given to 2 processes"),
        ((Hello(1, 2), Hello(0, 2), Hello(1, 2)), "--process_id=1 was given to 2 processes"),
        ((Hello(0, 2), Hello(1, 3)), "--num_processes is 3 in process 1 and 2 in process 0"),
        ((Hello(0, 3), Hello(1, 2)), "--num_processes is 2 in process 1 and 3 in process 0"),
        ((Hello(0, 2), Hello(1, 2, "no such data")), "process 1 of 2 has ended before the run began: no such data"),
        ((Hello(0, 2, "no such data"), Hello(1, 2)), "process 0 of 2 has ended before the run began: no such data"),
    ],
)
def test_what_is_wrong_is_told_to_all_alike(hellos, expected):
    late = (0.0,) * (len(hellos) - 1) + (0.1,)
    said = heard(*hellos, late=late if len(hellos) == 2 else (0.0, 0.3, 0.0))
    assert len(set(said)) == 1
    assert said[0].startswith(expected)


def test_one_that_left_and_came_again_is_no_second_one():
    """Such as one that its user has stopped and started anew."""
    address = free_address()

    def visitor() -> None:
        time.sleep(0.3)
        with socket.create_connection(split(address)) as connection:
            connection.makefile("rb").readline()
            connection.sendall(b'[1, 3, ""]\n')
            time.sleep(0.1)

    with ThreadPoolExecutor(1) as pool:
        visited = pool.submit(visitor)
        assert heard(*(Hello(i, 3) for i in range(3)), address=address, late=(0, 1, 1)) == ["", "", ""]
        visited.result()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 400 Bad request\r\n\r\n", None])
def test_a_port_that_is_another_programs(answer):
    """One that ends connections, one that answers, one that never does."""
    with socket.create_server(("", 0)) as server, ThreadPoolExecutor(1) as pool:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection:
                        connection.sendall(answer or b"")

        if answer is not None:
            pool.submit(serve)
        said = heard(Hello(0, 2), Hello(1, 2), timeout=1, address=f"127.0.0.1:{server.getsockname()[1]}")
        server.shutdown(socket.SHUT_RDWR)
    assert "could not receive the others" in said[0]
    assert "of this machine: Address already in use" in said[0]
    assert ("no answer" if answer is None else "no process 0 that waits for others") in said[1]


def test_strangers_at_the_table_are_passed_over():
    address = free_address()

    def stranger() -> None:
        time.sleep(0.3)
        for line in (b"GET / HTTP/1.0\r\n\r\n", b"7\n", b'[{"a": 1}, 2, 3]\n', b"[1]\n", b""):
            with socket.create_connection(split(address)) as connection:
                connection.sendall(line)

    with ThreadPoolExecutor(1) as pool:
        visited = pool.submit(stranger)
        assert heard(Hello(0, 2), Hello(1, 2), address=address, late=(0, 1.5)) == ["", ""]
        visited.result()


def test_an_excuse_reaches_the_others_once(monkeypatch):
    address = free_address()
    meeting._tried.clear()
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(excuse, address, Hello(1, 2, "bad config"))
        time.sleep(0.1)
        (said,) = heard(Hello(0, 2), address=address)
        other.result()
    assert "process 1 of 2 has ended before the run began: bad config" in said
    monkeypatch.setattr(meeting, "meet", lambda *_: pytest.fail("it has met the others, who know by now"))
    excuse(address, Hello(1, 2, "bad config"))


@pytest.mark.parametrize("address", ["host0", ":12345", "host0:", "host0:0", "host0:65536", "host0:http", ""])
def test_an_address_has_a_host_and_a_port(address):
    with pytest.raises(UsageError, match="is not host:port"):
        split(address)


def test_addresses():
    assert split("host0:65535") == ("host0", 65535)
    assert split("[::1]:1234") == ("::1", 1234)
