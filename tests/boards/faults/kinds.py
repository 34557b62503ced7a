"""The faults, each real: what is done at each random moment, for how long, and how it is undone."""

from __future__ import annotations

import errno
import itertools
import os
import random
import signal
import subprocess
import time
import uuid
from pathlib import Path

from tests.boards.faults.checker import trials_in
from tests.boards.faults.scene import Scene
from tests.boards.silent_network import FAR_ADDRESS, SilentCable
from tests.boards.wire import Wire
from tests.boards.x86 import is_zombie, wait_until

APPEAR_S = 90.0
DISK_BYTES = 4 << 20
PAGE = 4096
LIBFAKETIME = "faketime/libfaketime.so.1"


class Fault:
    """One kind of fault. The methods are called in this order: `furnish`, and at each moment `strike` and `lift`.

    Attributes:
        title: for the table.
        down_s: how long it lasts, from and to.
        tears: the journal, `host` or `device`, that loses its last record: no witness of what was finished then.
    """

    title = ""
    down_s = (0.0, 0.0)
    tears = ""

    def furnish(self, scene: Scene) -> None:
        """Prepare the board before it starts."""

    def strike(self, scene: Scene, draw: random.Random) -> None:
        """Do it."""
        raise NotImplementedError

    def lift(self, scene: Scene) -> None:
        """Undo it."""

    def effects(self, scene: Scene) -> int:
        """How often the fault shows in what the campaign left; here: how often the host lost its session."""
        return scene.log.count("lost the agent (")

    def close(self) -> None:
        """Let go of what `furnish` has made."""


class _KilledAgent(Fault):
    """SIGKILL of one of the agent's processes, a random while after it was seen."""

    role = ""
    within_s = 0.0

    def strike(self, scene: Scene, draw: random.Random) -> None:
        until = time.monotonic() + APPEAR_S
        while time.monotonic() < until:
            for pid in scene.board.agents(self.role):
                if _kill(pid, draw.uniform(0, self.within_s)):
                    return
            time.sleep(0.001)
        raise AssertionError(f"no {self.role} to kill within {APPEAR_S:g} s")


def _kill(pid: int, after_s: float) -> bool:
    """SIGKILL one process, whose number cannot come to mean another one meanwhile; False when it was gone."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        time.sleep(after_s)
        if is_zombie(pid):
            return False
        signal.pidfd_send_signal(process, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(process)
    return True


class Worker(_KilledAgent):
    title = "SIGKILL of the worker"
    role = "worker"
    within_s = 0.12

    def furnish(self, scene: Scene) -> None:
        scene.attempts = 2  # what a killed worker leaves is a record, `crashed (SIGKILL)`; its trial has another try

    def effects(self, scene: Scene) -> int:
        return sum(record.get("signal") == "SIGKILL" for record in scene.records())


class Supervisor(_KilledAgent):
    title = "SIGKILL of the supervisor"
    role = "serve"
    within_s = 0.3


class Host(Fault):
    title = "SIGKILL of the host"
    down_s = (0.0, 1.0)

    def strike(self, scene: Scene, draw: random.Random) -> None:
        scene.kill_host()

    def lift(self, scene: Scene) -> None:
        scene.run_host()

    def effects(self, scene: Scene) -> int:
        return scene.starts - 1


class Close(Fault):
    """The sshd process of the connection dies, and the kernel closes what it had open; the agent stays."""

    title = "SSH connection closed"

    def strike(self, scene: Scene, draw: random.Random) -> None:
        wait_until(scene.board.connections, "a connection to cut", APPEAR_S)
        scene.board.cut()


class Reset(Fault):
    """Both ends of the TCP connection get a reset."""

    title = "SSH connection reset"

    def furnish(self, scene: Scene) -> None:
        self._wire = Wire(scene.board.port)
        scene.address = ("127.0.0.1", self._wire.port)

    def strike(self, scene: Scene, draw: random.Random) -> None:
        wait_until(self._wire.reset, "a connection to reset", APPEAR_S)

    def close(self) -> None:
        self._wire.__exit__(None, None, None)


class Network(Fault):
    """Every packet is dropped, both ways, without a reset; short drops TCP bears, long ones it does not."""

    title = "packets dropped silently"
    down_s = (1.0, 9.0)

    def furnish(self, scene: Scene) -> None:
        self._cable = SilentCable()
        scene.board.host = FAR_ADDRESS
        scene.board.launcher = self._cable.inside
        scene.dead_s = 3.0

    def strike(self, scene: Scene, draw: random.Random) -> None:
        self._cable.cut()

    def lift(self, scene: Scene) -> None:
        self._cable.mend()

    def close(self) -> None:
        self._cable.close()


class Sshd(Fault):
    """The SSH server and its connections end, and nobody listens for a while."""

    title = "sshd stopped, started"
    down_s = (0.2, 4.0)

    def strike(self, scene: Scene, draw: random.Random) -> None:
        scene.board.cut()
        scene.board.stop()

    def lift(self, scene: Scene) -> None:
        scene.board.start()


class Reboot(Fault):
    """All processes of the board die at once; it comes back with a new boot id."""

    title = "board rebooted"
    down_s = (0.2, 4.0)

    def furnish(self, scene: Scene) -> None:
        # The kernel's boot id cannot be changed, but what the board's processes see in its place can.
        self._boot_id = scene.folder / "boot_id"
        see = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
        scene.board.launcher = ("unshare", "--mount", "sh", "-c", see, str(self._boot_id))
        self._boot(scene)

    def _boot(self, scene: Scene) -> None:
        scene.boot_id = str(uuid.uuid4())
        self._boot_id.write_text(scene.boot_id + "\n")

    def strike(self, scene: Scene, draw: random.Random) -> None:
        scene.board.power_off()

    def lift(self, scene: Scene) -> None:
        self._boot(scene)
        scene.board.start()


class DiskFull(Fault):
    """The file system of the board's home has no space left, or a few pages only."""

    title = "disk full on the board"
    down_s = (0.3, 4.0)

    def furnish(self, scene: Scene) -> None:
        home = scene.board.home
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", str(home)], check=True)
        self._home, self._filler = home, home / "filler"

    def strike(self, scene: Scene, draw: random.Random) -> None:
        with self._filler.open("wb", buffering=0) as file:
            try:
                while file.write(b"x" * PAGE):
                    pass
            except OSError as error:
                assert error.errno == errno.ENOSPC, error  # noqa: PT017
            else:
                raise AssertionError("the disk took everything")
            file.truncate(max(file.seek(0, os.SEEK_END) - draw.choice((0, 0, 1, 3)) * PAGE, 0))

    def lift(self, scene: Scene) -> None:
        self._filler.unlink()

    def effects(self, scene: Scene) -> int:
        """Lost sessions, and trials whose record the host alone has: the device could not store it."""
        on_device = {record["trial_id"] for record in trials_in(scene.snapshots[-1].device)}
        return super().effects(scene) + sum(record["trial_id"] not in on_device for record in scene.records())

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self._home)], check=True)


def tear(journal: Path, draw: random.Random) -> None:
    """Cut a journal at a random byte of its last record, as a power cut does that came while it was written."""
    data = journal.read_bytes()
    if data:
        begin = data.rfind(b"\n", 0, len(data) - 1) + 1
        os.truncate(journal, draw.randrange(begin, len(data)))


class DeviceJournal(Reboot):
    """A power cut on the board tears the last record of its journal: what the host had got of it stays."""

    title = "journal torn on the device"
    tears = "device"

    def strike(self, scene: Scene, draw: random.Random) -> None:
        super().strike(scene, draw)
        tear(scene.device_journal, draw)


class HostJournal(Host):
    """A power cut on the host tears the last record of its journal: the device still has it."""

    title = "journal torn on the host"
    tears = "host"

    def strike(self, scene: Scene, draw: random.Random) -> None:
        super().strike(scene, draw)
        tear(scene.config.journal, draw)

    def effects(self, scene: Scene) -> int:
        return scene.log.count("damaged bytes aside")


def find_libfaketime() -> Path | None:
    """The library that shifts a program's clock (Debian: libfaketime)."""
    return next((path for path in Path("/usr/lib").glob(f"*/{LIBFAKETIME}")), None)


class Clock(Fault):
    """The wall clock of host, supervisor and worker jumps back, further each time; the monotonic one does not."""

    title = "clock set back everywhere"

    def furnish(self, scene: Scene) -> None:
        library = find_libfaketime()
        assert library is not None, "no libfaketime on this machine (Debian: libfaketime)"
        self._shift = scene.folder / "clock"
        self._back_s = 0
        self._set()
        settings = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._shift),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        scene.board.environment.update(settings)
        scene.environment.update(settings)

    def _set(self) -> None:
        new = self._shift.with_suffix(".new")
        new.write_text(f"-{self._back_s}s\n")
        new.replace(self._shift)

    def strike(self, scene: Scene, draw: random.Random) -> None:
        self._back_s += draw.randint(60, 30 * 86400)
        self._set()

    def effects(self, scene: Scene) -> int:
        labels = [record["started_at"] for record in scene.records()]
        return sum(later < earlier for earlier, later in itertools.pairwise(labels))


FAULTS: dict[str, type[Fault]] = {
    "worker": Worker,
    "supervisor": Supervisor,
    "host": Host,
    "close": Close,
    "reset": Reset,
    "network": Network,
    "sshd": Sshd,
    "reboot": Reboot,
    "disk": DiskFull,
    "device-journal": DeviceJournal,
    "host-journal": HostJournal,
    "clock": Clock,
}
