"""What every transport promises. `tests/boards/test_ssh_transport.py` holds the SSH transport to the same tests."""

from __future__ import annotations

import os
import stat
import sys
import time
from pathlib import Path

import pytest

from hwloop.devices import Deadline, LocalTransport
from hwloop.devices.transports import LocalChannel
from hwloop.errors import TransportError


@pytest.fixture(params=["local"])
def transport(request):
    return {"local": LocalTransport}[request.param]()


def run(transport, code: str):
    return transport.start([transport.python, "-c", code])


def read_all(channel) -> bytes:
    data = b""
    while True:
        piece = channel.read(65536, Deadline(20))
        if not piece:
            return data
        data += piece


def test_bytes_go_there_and_back_unchanged(transport):
    channel = run(transport, "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read(300000))")
    data = os.urandom(300_000)
    channel.write(data, Deadline(20))
    assert read_all(channel) == data
    assert channel.close(5, kill=True) == 0


def test_a_read_returns_what_there_is_and_keeps_its_deadline(transport):
    channel = run(transport, "import sys,time; sys.stdout.write('now'); sys.stdout.flush(); time.sleep(30)")
    assert channel.read(100, Deadline(20)) == b"now"
    with pytest.raises(TimeoutError):
        channel.read(100, Deadline(0.05))
    channel.close(0, kill=True)


def test_a_peer_that_does_not_read_cannot_hold_a_write(transport):
    channel = run(transport, "import time; time.sleep(30)")
    with pytest.raises(TimeoutError):
        channel.write(b"x" * 10_000_000, Deadline(0.2))
    channel.close(0, kill=True)


def test_a_flood_on_stderr_blocks_nobody_and_only_its_end_is_kept(transport):
    code = "import sys; sys.stderr.write('x'*4_000_000 + 'the end'); sys.stderr.flush(); sys.stdout.write('done')"
    channel = run(transport, code)
    assert read_all(channel) == b"done"
    channel.close(5, kill=True)
    assert channel.stderr_tail().endswith("the end")
    assert len(channel.stderr_tail()) <= 8192


def test_a_peer_that_died_is_an_end_or_an_error_and_never_a_hang(transport):
    channel = run(transport, "pass")
    assert read_all(channel) == b""

    def write_on() -> None:  # until the news of its end has arrived
        while True:
            channel.write(b"x" * 65536, Deadline(5))

    with pytest.raises(TransportError):
        write_on()
    assert channel.close(5, kill=True) == 0
    with pytest.raises(TransportError, match="closed"):
        channel.read(1, Deadline(1))


def test_closing_can_leave_a_program_to_finish(transport, tmp_path):
    code = f"import sys,time; sys.stdin.read(); time.sleep(0.4); open({str(tmp_path / 'finished')!r}, 'w').close()"
    channel = run(transport, code)
    assert channel.close(0, kill=False) is None
    assert channel.close(0, kill=True) is None
    until = Deadline(20)
    while not (tmp_path / "finished").exists():
        assert not until.expired
        time.sleep(0.02)
    if isinstance(channel, LocalChannel):
        channel.process.wait()


def test_closing_can_end_a_program_and_what_it_started(transport):
    code = "import subprocess,sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    channel = run(transport, code)
    pid = int(channel.read(100, Deadline(20)))
    channel.close(0, kill=True)
    until = Deadline(20)
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        assert not until.expired
        time.sleep(0.02)


def test_a_program_that_is_not_there_is_an_error(transport):
    with pytest.raises(TransportError, match="cannot be started"):
        transport.start(["/nowhere/python"])


def test_put_is_whole_private_and_replaces(transport, tmp_path):
    path = tmp_path / "a/b/file"
    assert transport.size(str(path)) is None
    for data in (b"first", b"second, longer"):
        transport.put(data, str(path))
        assert path.read_bytes() == data
        assert transport.size(str(path)) == len(data)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(TransportError, match="cannot be stored"):
        transport.put(b"x", str(path / "below a file"))


def test_free_space_is_told_of_what_exists(transport, tmp_path):
    free = os.statvfs(tmp_path)
    assert transport.free_bytes(str(tmp_path)) == pytest.approx(free.f_frsize * free.f_bavail, rel=0.1)
    assert transport.free_bytes(str(tmp_path / "nothing")) is None


def test_what_was_closed_can_be_used_again(transport, tmp_path):
    assert transport.default_root().startswith("/")
    transport.close()
    transport.close()
    assert transport.size(str(tmp_path / "nothing")) is None


def test_the_default_root_is_in_the_users_cache(monkeypatch):
    transport = LocalTransport()
    monkeypatch.setenv("XDG_CACHE_HOME", "/some/cache")
    assert transport.default_root() == "/some/cache/hwloop"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert transport.default_root() == str(Path.home() / ".cache/hwloop")


def test_this_interpreter_is_the_default():
    assert LocalTransport().python == sys.executable


def test_a_deadline_is_a_moment():
    now = [0.0]
    deadline = Deadline(10, lambda: now[0])
    now[0] = 4.0
    assert (deadline.remaining, deadline.expired) == (6.0, False)
    assert deadline.at_most(100).remaining == 6.0
    assert deadline.at_most(1).remaining == 1.0
    now[0] = 11.0
    assert (deadline.remaining, deadline.expired) == (0.0, True)
