"""The first process of an emulated board: mounts, sshd, and the burial of orphans. Started by `arm64.start` only.

It runs in namespaces of its own (mounts, processes, host name): what it mounts never reaches the host and vanishes with
it, and when it dies the kernel kills every process of the board. SIGUSR1 stops sshd and all connections, SIGUSR2 starts
it again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import uuid
from pathlib import Path

DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}


def mount(*words: str | Path) -> None:
    """Mount something, loudly."""
    subprocess.run(["mount", *map(str, words)], check=True)


# What the kernel of a board with Cortex-A72 cores says. qemu-user shows the host's own file instead, and the library
# that onnxruntime and LiteRT read it with (cpuinfo) dies by SIGSEGV of an x86 one on Arm.
PROCESSOR = """processor\t: {number}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""


def set_up(tree: Path, boot_id: Path, own_cpuinfo: bool) -> None:
    """Mount what a running machine has, give it a name, a boot id and, if it shall, a processor of its own."""
    mount("--make-rprivate", "/")
    mount("-t", "proc", "-o", "nosuid,nodev,noexec", "proc", tree / "proc")
    mount("-t", "sysfs", "-o", "ro,nosuid,nodev,noexec", "sysfs", tree / "sys")
    mount("-t", "tmpfs", "-o", "mode=755,nosuid", "tmpfs", tree / "dev")
    for name, (major, minor) in DEVICES.items():
        os.mknod(tree / "dev" / name, stat.S_IFCHR | 0o666, os.makedev(major, minor))
        (tree / "dev" / name).chmod(0o666)
    for name, mode in (("pts", 0o755), ("shm", 0o1777)):
        (tree / "dev" / name).mkdir()
        (tree / "dev" / name).chmod(mode)
    mount("-t", "devpts", "-o", "newinstance,ptmxmode=0666,mode=620,gid=5", "devpts", tree / "dev/pts")
    (tree / "dev/ptmx").symlink_to("pts/ptmx")
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        (tree / "dev" / name).symlink_to(f"/proc/self/fd{target}")
    mount("-t", "tmpfs", "-o", "mode=1777,nosuid,nodev", "tmpfs", tree / "tmp")
    mount("-t", "tmpfs", "-o", "mode=755,nosuid,nodev", "tmpfs", tree / "run")
    (tree / "run/sshd").mkdir(mode=0o755)
    boot_id.write_text(f"{uuid.uuid4()}\n")
    mount("--bind", boot_id, tree / "proc/sys/kernel/random/boot_id")
    if own_cpuinfo:
        cpuinfo = boot_id.with_name("cpuinfo")
        cpuinfo.write_text("".join(PROCESSOR.format(number=number) for number in range(os.cpu_count() or 1)))
        mount("--bind", cpuinfo, tree / "proc/cpuinfo")
    socket.sethostname("arm64-board")


class Init:
    """Process 1 of the board."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.sshd: subprocess.Popen[bytes] | None = None

    def start(self, *_: object) -> None:
        """Start sshd."""
        if self.sshd is None:
            environment = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
            argv = ["chroot", str(self.tree), "/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/sshd_config"]
            self.sshd = subprocess.Popen(argv, stdin=subprocess.DEVNULL, env=environment)

    def stop(self, *_: object) -> None:
        """End sshd and every connection; other processes of the board live on."""
        self.sshd = None
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if int(entry.name) != 1 and (b"/usr/sbin/sshd" in command or b"sshd:" in command):
                    os.kill(int(entry.name), signal.SIGKILL)

    def serve(self) -> None:
        """Bury what has died, for ever."""
        signal.signal(signal.SIGUSR1, self.stop)
        signal.signal(signal.SIGUSR2, self.start)
        self.start()
        while True:
            try:
                os.wait()
            except ChildProcessError:
                time.sleep(0.05)


if __name__ == "__main__":
    root = Path(sys.argv[1])
    set_up(root, Path(sys.argv[2]), sys.argv[3] == "own-cpuinfo")
    # /proc of the host shows other process numbers than this namespace has.
    mount("-t", "proc", "proc", "/proc")
    Init(root).serve()
