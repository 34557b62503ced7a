"""`hwloop device`, as a person and as a script use it, against a real sshd."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
import tomllib

import pytest

from tests.boards.x86 import make_key

pytestmark = pytest.mark.board


@pytest.fixture
def hwloop(board, tmp_path):
    """Runs the command in a project folder, with a home of its own."""
    home, folder = tmp_path / "operator", tmp_path / "project"
    (home / ".ssh").mkdir(parents=True)
    folder.mkdir()
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "SSH_"))}
    environ |= {"HOME": str(home), "COLUMNS": "200"}

    def run(*words, code=0, stdin=subprocess.DEVNULL):
        done = subprocess.run(
            [sys.executable, "-m", "hwloop.cli.main", "device", *map(str, words)],
            capture_output=True,
            text=True,
            stdin=stdin,
            cwd=folder,
            env=environ,
            timeout=120,
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        return done

    run.folder, run.home, run.environ = folder, home, environ
    return run


def url(board) -> str:
    return f"ssh://{board.user}@127.0.0.1:{board.port}"


def test_a_script_adds_checks_and_removes_a_device(hwloop, board):
    options = ("--identity", board.user_key, "--python", sys.executable)
    refused = hwloop("add", "pi4", url(board), *options, code=2)
    (line,) = refused.stderr.strip().splitlines()
    assert f"--fingerprint {board.host_key.fingerprint}" in line
    assert not list(hwloop.folder.iterdir())

    wrong = hwloop("add", "pi4", url(board), *options, "--fingerprint", "SHA256:" + "A" * 43, code=2)
    assert board.host_key.fingerprint in wrong.stderr
    assert "SHA256:" + "A" * 43 in wrong.stderr

    hwloop("add", "pi4", url(board), *options, "--fingerprint", board.host_key.fingerprint, "--project")
    (entry,) = tomllib.loads((hwloop.folder / "devices.toml").read_text())["devices"].values()
    assert entry["host_key"] == board.host_key.text
    assert entry["fingerprint"] == board.host_key.fingerprint
    assert "PRIVATE" not in (hwloop.folder / "devices.toml").read_text()
    taken = hwloop("add", "pi4", url(board), code=2)
    assert "there is a device pi4 already" in taken.stderr

    local, pi4 = json.loads(hwloop("list", "--json").stdout)
    assert (local["name"], pi4["name"], pi4["health"]) == ("local", "pi4", "unknown")
    assert "pi4" in hwloop("list").stdout

    facts = json.loads(hwloop("facts", "pi4", "--json").stdout)
    assert facts["runtimes"]["onnxruntime"]["import"] == "ok"
    assert "onnxruntime" in hwloop("facts", "pi4").stdout

    told = json.loads(hwloop("check", "pi4", "--json").stdout)
    assert told["health"] in ("good", "degraded")
    assert told["figures"]["free_bytes"] > 0
    assert json.loads(hwloop("list", "--json").stdout)[1]["health"] == told["health"]

    board.stop()
    bad = hwloop("check", "pi4", code=1)
    assert "bad" in bad.stdout
    assert "Connection refused" in bad.stdout
    assert json.loads(hwloop("list", "--json").stdout)[1]["health"] == "bad"

    hwloop("remove", "pi4")
    assert [row["name"] for row in json.loads(hwloop("list", "--json").stdout)] == ["local"]
    assert "there is no device 'pi4'" in hwloop("remove", "pi4", code=2).stderr
    assert "cannot be removed" in hwloop("remove", "local", code=2).stderr


def test_a_changed_key_is_refused_by_every_command(hwloop, board):
    options = ("--identity", board.user_key, "--python", sys.executable, "--user")
    old = board.host_key.fingerprint
    hwloop("add", "pi4", url(board), *options, "--fingerprint", old)
    assert (hwloop.home / ".config/hwloop/devices.toml").exists()
    board.stop()
    board.new_host_key()
    board.start()
    for command in ("facts", "check"):
        refused = hwloop(command, "pi4", code=2)
        (line,) = refused.stderr.strip().splitlines()
        assert old in line
        assert board.host_key.fingerprint in line
        assert "hwloop device remove pi4" in line


def test_a_fingerprint_of_any_of_the_devices_keys_will_do(hwloop, board):
    board.stop()
    key = make_key(board.folder / "rsa", "rsa")
    board.extra_config = [f"HostKey {key}"]
    board.start()
    said = subprocess.run(["ssh-keygen", "-lf", f"{key}.pub"], capture_output=True, text=True, check=True).stdout
    options = ("--identity", board.user_key, "--python", sys.executable, "--project")
    hwloop("add", "pi4", url(board), *options, "--fingerprint", said.split()[1])
    (entry,) = tomllib.loads((hwloop.folder / "devices.toml").read_text())["devices"].values()
    assert entry["host_key"].startswith("ssh-rsa ")
    hwloop("facts", "pi4", "--json")


def test_what_is_wrong_with_a_new_device_is_one_line_and_nothing_is_written(hwloop, board, tmp_path):
    given = ("--fingerprint", board.host_key.fingerprint, "--project")
    stranger = make_key(tmp_path / "stranger")
    for words, code, part in (
        (("pi4", url(board), "--identity", stranger), 2, "lets us in with none of our keys"),
        (("pi4", url(board), "--identity", board.user_key, "--python", "python9"), 1, "python9 cannot be started"),
        (("pi4", "http://x"), 2, "no SSH address"),
        (("pi 4", url(board)), 2, "cannot be called"),
        (("pi4", "ssh://nobody@127.0.0.1:1"), 1, "cannot be reached"),
    ):
        refused = hwloop("add", *words, *given, code=code)
        (line,) = refused.stderr.strip().splitlines()
        assert part in line
    assert not list(hwloop.folder.iterdir())


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 2)])
def test_a_person_is_shown_the_fingerprint_and_asked(hwloop, board, answer, code):
    words = ["add", "pi4", url(board), "--identity", board.user_key, "--python", sys.executable, "--project"]
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, "-m", "hwloop.cli.main", "device", *map(str, words)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=hwloop.folder,
        env=hwloop.environ,
        start_new_session=True,
    )
    os.close(theirs)
    shown, answered, until = "", False, time.monotonic() + 60
    try:
        while time.monotonic() < until:
            if not select.select([ours], [], [], 1)[0]:
                continue
            try:
                shown += os.read(ours, 65536).decode()
            except OSError:  # the terminal's other end is closed
                break
            if "[y/N]" in shown and not answered:
                answered = True
                os.write(ours, answer.encode() + b"\n")
    finally:
        os.close(ours)
    assert command.wait(30) == code, shown
    assert board.host_key.fingerprint in shown
    assert (hwloop.folder / "devices.toml").exists() == (code == 0)


def test_jump_hosts_are_pinned_too(hwloop, board, make_board):
    bastion = make_board("bastion")
    (hwloop.home / ".ssh/config").write_text(
        f"Host gate\n  HostName 127.0.0.1\n  Port {bastion.port}\n  IdentityFile {bastion.user_key}\n"
        f"Host inner\n  HostName 127.0.0.1\n  Port {board.port}\n  IdentityFile {board.user_key}\n  ProxyJump gate\n"
    )
    words = ("add", "inner", "ssh://inner", "--python", sys.executable, "--project")
    first = hwloop(*words, "--fingerprint", board.host_key.fingerprint, code=2)
    assert f"jump host 127.0.0.1:{bastion.port}" in first.stderr
    prints = [word for one in (bastion, board) for word in ("--fingerprint", one.host_key.fingerprint)]
    hwloop(*words, *prints)
    (entry,) = tomllib.loads((hwloop.folder / "devices.toml").read_text())["devices"].values()
    assert entry["jump_keys"] == {f"127.0.0.1:{bastion.port}": bastion.host_key.text}
    assert json.loads(hwloop("facts", "inner", "--json").stdout)["arch"]
