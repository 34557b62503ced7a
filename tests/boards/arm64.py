"""A Debian arm64 board on this machine: qemu-user, its own sshd on a loopback port, an ordinary user.

    python -m tests.boards.arm64 build DIR     make the board's file system in DIR (cached: a minute, then seconds)
    python -m tests.boards.arm64 start DIR     boot it and print how to reach it
    python -m tests.boards.arm64 bare DIR      the same with the host's /proc/cpuinfo, of which some runtimes die
    python -m tests.boards.arm64 stop DIR      kill everything on it

To all that speaks SSH it is a real aarch64 machine. Its times mean nothing: agents on it report `emulated: true`.
The board lives in namespaces of its own, so nothing that it mounts can reach the host, and killing its first process
kills all of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.boards.debian_arm64 import HOME, USER, BoardError, cached_tree, enable_emulation, missing, run

BOOT_S = 60.0
HOST = "127.0.0.1"
STATE = "board.json"
KEYS = "/etc/ssh/authorized_keys/%u"

SSHD = """Port {port}
ListenAddress 127.0.0.1
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile {keys}
UsePAM no
UseDNS no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
PrintMotd no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Board:
    """A running board.

    Attributes:
        folder: holds `tree`, the board's root file system, the client's `key`, `known_hosts`, and `sshd.log`.
        port: of its sshd on the loopback interface.
        fingerprint: of its host key, `SHA256:…`.
        pid: of the process on this machine whose death ends it.
    """

    folder: Path
    port: int
    fingerprint: str
    pid: int
    host: str = HOST
    user: str = USER
    home: str = HOME

    @property
    def url(self) -> str:
        """How `hwloop device add` names it."""
        return f"ssh://{self.user}@{self.host}:{self.port}"

    @property
    def key(self) -> Path:
        """The private key that may log in."""
        return self.folder / "key"

    @property
    def known_hosts(self) -> Path:
        """A known_hosts file that holds the board's key."""
        return self.folder / "known_hosts"

    @property
    def tree(self) -> Path:
        """The board's root directory as this machine sees it (less what is mounted on the board: /proc, /tmp, /run)."""
        return self.folder / "tree"

    def on_host(self, path: str) -> Path:
        """Return where an absolute path of the board is on this machine."""
        return self.tree / path.lstrip("/")

    def ssh(self, command: str, limit_s: float = 60) -> str:
        """Run a shell command as the board's user with the system's ssh; return what it printed.

        Raises:
            BoardError: it failed.
        """
        argv = ["ssh", "-F", "none", "-i", str(self.key), "-p", str(self.port)]
        argv += ["-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "BatchMode=yes", f"{self.user}@{self.host}"]
        done = subprocess.run([*argv, command], capture_output=True, text=True, timeout=limit_s, check=False)
        if done.returncode:
            raise BoardError(f"{command!r} on the board ended with {done.returncode}: {done.stderr.strip()[-500:]}")
        return done.stdout

    def stop_sshd(self) -> None:
        """End sshd and all connections; what runs on the board lives on."""
        os.kill(_init_of(self.pid), signal.SIGUSR1)

    def start_sshd(self) -> None:
        """Start sshd again and wait until it answers."""
        os.kill(_init_of(self.pid), signal.SIGUSR2)
        _await_banner(self.port, self.pid, self.folder)

    def stop(self) -> None:
        """Kill everything on the board at once, as a power cut does; its files stay."""
        _kill(self.pid)
        (self.folder / STATE).unlink(missing_ok=True)


def build(folder: Path) -> None:
    """Make the board's file system and keys in `folder`, which must not exist or be empty.

    Raises:
        BoardError: it cannot be made.
    """
    if folder.exists() and any(folder.iterdir()):
        raise BoardError(f"{folder} is not empty")
    source = cached_tree()
    folder.mkdir(parents=True, exist_ok=True)
    tree = folder / "tree"
    run(["cp", "-a", "--reflink=auto", source, tree])
    ssh = tree / "etc/ssh"
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "arm64-board", "-f", ssh / "ssh_host_ed25519_key"])
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "hwloop-tests", "-f", folder / "key"])
    (ssh / "authorized_keys").mkdir()
    shutil.copy(folder / "key.pub", ssh / "authorized_keys" / USER)


def start(folder: Path, *, port: int | None = None, with_parent: bool = False, own_cpuinfo: bool = True) -> Board:
    """Boot the board in `folder`; a board that was stopped boots with its files as they were and a new boot id.

    Args:
        folder: made by `build`.
        port: of its sshd; a free one, or that of the last boot.
        with_parent: the kernel kills the board when this process dies.
        own_cpuinfo: whether `/proc/cpuinfo` is an Arm board's; else it is the host's, as under bare qemu-user, and
            onnxruntime 1.31.1 dies there by SIGSEGV (on some hosts LiteRT too).

    Raises:
        BoardError: it runs already, or does not come up.
    """
    enable_emulation()
    with contextlib.suppress(BoardError):
        find(folder)
        raise BoardError(f"the board in {folder} runs already") from None
    tree = folder / "tree"
    config = tree / "etc/ssh/sshd_config"
    port = port or _last_port(config) or _free_port()
    config.write_text(SSHD.format(port=port, keys=KEYS))
    kind, key = (tree / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[{HOST}]:{port} {kind} {key}\n")
    argv = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child=SIGKILL"]
    if with_parent:
        argv = ["setpriv", "--pdeathsig", "KILL", *argv]
    argv += [sys.executable, "-I", str(Path(__file__).with_name("boot.py")), str(tree), str(folder / "boot_id")]
    argv.append("own-cpuinfo" if own_cpuinfo else "host-cpuinfo")
    with (folder / "sshd.log").open("ab") as log:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        _await_banner(port, process.pid, folder)
    except BaseException:
        _kill(process.pid)
        raise
    board = Board(folder, port, _fingerprint(folder), process.pid)
    (folder / STATE).write_text(json.dumps({"port": port, "pid": process.pid}))
    return board


def find(folder: Path) -> Board:
    """Return the board that runs in `folder`. Raises `BoardError` when none does."""
    try:
        state = json.loads((folder / STATE).read_text())
        command = Path(f"/proc/{state['pid']}/cmdline").read_bytes()
    except (OSError, ValueError):
        raise BoardError(f"no board runs in {folder}") from None
    if str(folder).encode() not in command:
        raise BoardError(f"no board runs in {folder}")
    return Board(folder, state["port"], _fingerprint(folder), state["pid"])


@contextmanager
def running(folder: Path, *, own_cpuinfo: bool = True) -> Iterator[Board]:
    """Build and boot a board in `folder`; it is gone afterwards, files too, also when this process is killed."""
    build(folder)
    board = start(folder, with_parent=True, own_cpuinfo=own_cpuinfo)
    try:
        yield board
    finally:
        board.stop()
        shutil.rmtree(folder)


def _last_port(config: Path) -> int | None:
    # Debian's own file has no line of this form; ours begins with it.
    first = config.read_text().split("\n", 1)[0].split() if config.exists() else []
    return int(first[1]) if first[:1] == ["Port"] else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _fingerprint(folder: Path) -> str:
    key = folder / "tree/etc/ssh/ssh_host_ed25519_key.pub"
    return subprocess.run(["ssh-keygen", "-lf", key], capture_output=True, text=True, check=True).stdout.split()[1]


def _await_banner(port: int, pid: int, folder: Path) -> None:
    until = time.monotonic() + BOOT_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), 5) as probe:
            probe.settimeout(10)
            if probe.recv(4) == b"SSH-":
                return
        if _has_ended(pid):
            break
        time.sleep(0.1)
    tail = (folder / "sshd.log").read_text(errors="replace")[-500:]
    raise BoardError(f"the board did not come up: {' '.join(tail.split())}")


def _has_ended(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True


def _init_of(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    if not children:
        raise BoardError("the board is down")
    return int(children[0])


def _kill(pid: int) -> None:
    with contextlib.suppress(BoardError, OSError):
        os.kill(_init_of(pid), signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    until = time.monotonic() + 10
    while not _has_ended(pid):
        if time.monotonic() > until:
            raise BoardError(f"the board's process {pid} does not end")
        time.sleep(0.02)
    with contextlib.suppress(ChildProcessError):  # started by another process
        os.waitpid(pid, 0)


def main(words: list[str]) -> int:
    """Carry out `build`, `start`, `bare` or `stop`."""
    if len(words) != 2 or words[0] not in ("build", "start", "bare", "stop"):
        sys.stderr.write("usage: python -m tests.boards.arm64 build|start|bare|stop DIR\n")
        return 2
    folder = Path(words[1]).absolute()
    try:
        reason = missing()
        if reason:
            raise BoardError(reason)
        if words[0] == "build":
            build(folder)
            print(f"built; boot it with: python -m tests.boards.arm64 start {folder}")
        elif words[0] in ("start", "bare"):
            board = start(folder, own_cpuinfo=words[0] == "start")
            print(f"{board.url}  host key {board.fingerprint}  client key {board.key}  files {board.tree}")
            print(f"ssh -F none -i {board.key} -o UserKnownHostsFile={board.known_hosts} -p {board.port} {USER}@{HOST}")
        else:
            find(folder).stop()
    except BoardError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
