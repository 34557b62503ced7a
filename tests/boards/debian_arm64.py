"""The recipe of the emulated board: a Debian bookworm tree for arm64 with Python, sshd and nothing else, cached.

debootstrap's second stage would run every package's scripts under emulation, for minutes; unpacking the packages and
writing the few files that the scripts would have written gives the same machine. The cache is keyed by the hash of this
file, so a change of the recipe builds anew.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

SUITE = "bookworm"
# No python3-venv, so no ensurepip: as a Debian board is delivered.
PACKAGES = ("python3", "openssh-server", "ca-certificates")
PYTHON = (3, 11)
USER, UID = "board", 1000
HOME = f"/home/{USER}"

TOOLS = {
    "debootstrap": "debootstrap",
    "qemu-aarch64-static": "qemu-user-static",
    "update-binfmts": "binfmt-support",
    "ssh-keygen": "openssh-client",
    "unshare": "util-linux",
}
BINFMT = Path("/proc/sys/fs/binfmt_misc")

PASSWD = f"""root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
sshd:x:100:65534::/run/sshd:/usr/sbin/nologin
{USER}:x:{UID}:{UID}::{HOME}:/bin/bash
"""
GROUP = f"root:x:0:\ntty:x:5:\nnogroup:x:65534:\n{USER}:x:{UID}:\n"
# `*` is no password at all; `!` would be a locked account, which sshd refuses also with a key.
SHADOW = "".join(f"{name}:*:19000:0:99999:7:::\n" for name in ("root", "nobody", "sshd", USER))


class BoardError(Exception):
    """The board cannot be built or started; one line."""


def missing() -> str:
    """Return why this machine cannot have the board, in one line; "" when it can."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "the emulated arm64 board needs an x86-64 Linux machine"
    if os.geteuid() != 0:
        return "the emulated arm64 board needs root (chroot, namespaces)"
    packages = sorted({package for tool, package in TOOLS.items() if shutil.which(tool) is None})
    if packages:
        return f"the emulated arm64 board needs: apt-get install {' '.join(packages)}"
    return ""


def run(argv: Sequence[str | Path], *, limit_s: float = 600) -> None:
    """Run a program; raise `BoardError` with the end of what it printed when it fails."""
    words = [str(word) for word in argv]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        raise BoardError(f"{' '.join(words[:3])} took more than {limit_s:g} s") from None
    if done.returncode:
        tail = (done.stdout + done.stderr).decode("utf-8", "replace").strip()[-500:]
        raise BoardError(f"{' '.join(words[:3])} failed with {done.returncode}: {' '.join(tail.split())}")


def enable_emulation() -> None:
    """Make the kernel hand arm64 programs to qemu; nothing happens where it does already."""
    if not (BINFMT / "register").exists():
        run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT])
    if not (BINFMT / "qemu-aarch64").exists():
        run(["update-binfmts", "--enable", "qemu-aarch64"])


def cached_tree() -> Path:
    """Return the finished tree, from the cache or built now (a minute)."""
    reason = missing()
    if reason:
        raise BoardError(reason)
    enable_emulation()
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(base) if base.startswith("/") else Path.home() / ".cache") / "hwloop-boards"
    key = sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    target = folder / f"arm64-{key}"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for older in folder.glob("arm64-*"):
            shutil.rmtree(older)
        work = Path(tempfile.mkdtemp(prefix=".building-", dir=folder))
        try:
            work.chmod(0o755)
            _build(work)
            work.rename(target)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    return target


def _build(tree: Path) -> None:
    include = f"--include={','.join(PACKAGES)}"
    run(["debootstrap", "--foreign", "--arch=arm64", "--variant=minbase", include, SUITE, tree])
    archives = tree / "var/cache/apt/archives"
    for package in sorted(archives.glob("*.deb")):
        run(["dpkg", "-x", package, tree])
    shutil.rmtree(archives)
    shutil.rmtree(tree / "debootstrap")
    shutil.rmtree(tree / "var/lib/apt", ignore_errors=True)
    _write_accounts(tree)
    run(["chroot", tree, "/sbin/ldconfig"])
    _compile_library(tree)


def _write_accounts(tree: Path) -> None:
    etc = tree / "etc"
    for name, text in (("passwd", PASSWD), ("group", GROUP), ("shadow", SHADOW)):
        (etc / name).write_text(text)
    (etc / "shadow").chmod(0o600)
    (etc / "hosts").write_text("127.0.0.1 localhost arm64-board\n")
    (etc / "hostname").write_text("arm64-board\n")
    home = tree / HOME.lstrip("/")
    home.mkdir(parents=True)
    os.chown(home, UID, UID)
    home.chmod(0o700)
    (tree / "root").chmod(0o700)


def _compile_library(tree: Path) -> None:
    # Python's packages compile the library when they are installed; without it every start on the board compiles again.
    # The byte code of one minor version is the same on every machine.
    library = f"usr/lib/python{PYTHON[0]}.{PYTHON[1]}"
    if sys.version_info[:2] == PYTHON:
        run([sys.executable, "-m", "compileall", "-q", "-s", tree, "-p", "/", tree / library])
    else:
        run(["chroot", tree, "/usr/bin/python3", "-m", "compileall", "-q", f"/{library}"])
