"""Deploying, for real, into a directory of this machine: wheels that the test makes, and one with a real runtime."""

from __future__ import annotations

import fcntl
import io
import sys
import sysconfig
import zipfile
from base64 import urlsafe_b64encode
from hashlib import sha256
from pathlib import Path

import pytest

from hwloop.devices import AgentSession, LocalTransport
from hwloop.devices.provisioning import Target, Wheelhouse, deploy, remove, status
from hwloop.errors import AgentError, TransportError, UserError
from hwloop.progress import Silent

PI = Target((3, 11), "3.11.2", "aarch64", (2, 36))
DYING = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"


def make_wheel(folder: Path, name: str, version: str, code: str, requires: tuple[str, ...] = ()) -> Path:
    """Write a wheel with one module."""
    info = f"{name}-{version}.dist-info"
    about = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    about += [f"Requires-Dist: {line}\n" for line in requires]
    files = {
        f"{name}/__init__.py": code,
        f"{info}/METADATA": "".join(about),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for path, text in files.items():
        digest = urlsafe_b64encode(sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    files[f"{info}/RECORD"] = record + f"{info}/RECORD,,\n"
    target = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(target, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return target


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all the index pip knows of, with a pip and a runtime that dies when it is imported."""
    folder = tmp_path / "index"
    folder.mkdir()
    import ensurepip

    # Debian keeps the wheels of ensurepip elsewhere.
    bundled = sysconfig.get_config_var("WHEEL_PKG_DIR") or Path(ensurepip.__file__).parent / "_bundled"
    for wheel in Path(bundled).glob("pip-*.whl"):
        (folder / wheel.name).write_bytes(wheel.read_bytes())
    make_wheel(folder, "onnxruntime", "1.0", DYING, ('helper; python_version > "3"', 'absent; sys_platform == "win32"'))
    make_wheel(folder, "onnxruntime", "2.0", DYING)
    make_wheel(folder, "helper", "3.1", "")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


class Board:
    """A home directory on this machine and a way to it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        self.root = self.home / ".cache/hwloop"
        self.cache = folder / "wheels"
        self.sent: list[str] = []
        self.free: int | None = None

    def transport(self) -> LocalTransport:
        board = self

        class Counting(LocalTransport):
            def put(self, data: bytes, remote_path: str) -> None:
                board.sent.append(Path(remote_path).name)
                super().put(data, remote_path)

            def free_bytes(self, remote_path: str) -> int | None:
                return board.free if board.free is not None else super().free_bytes(remote_path)

        return Counting(sys.executable)

    def deploy(self, *runtimes: str, **more):
        return deploy(self.transport(), runtimes, Silent(), root=str(self.root), cache=self.cache, **more)

    def status(self):
        return status(self.transport(), Silent(), root=str(self.root))

    def remove(self) -> None:
        remove(self.transport(), root=str(self.root))


@pytest.fixture
def board(tmp_path: Path, index: Path) -> Board:
    return Board(tmp_path)


def test_a_deployment_says_how_a_runtime_died_does_nothing_the_second_time_and_leaves_no_trace(board):
    assert board.status().installed is None
    first = board.deploy("onnxruntime==1.0")
    assert first.changed
    assert first.installed.packages == {"onnxruntime": "1.0", "helper": "3.1"}
    assert first.broken == {"onnxruntime": "SIGSEGV: importing it ended the process: SIGSEGV"}
    site = next((board.root / "venv/lib").glob("python*/site-packages"))
    assert {path.name for path in site.glob("*.dist-info")} == {"onnxruntime-1.0.dist-info", "helper-3.1.dist-info"}
    assert list(site.glob("helper/__pycache__/*.pyc"))
    assert not (board.root / "wheelhouse").exists()

    board.sent.clear()
    before = {path: path.lstat().st_mtime_ns for path in (board.root / "venvs").rglob("*")}
    second = board.deploy()
    assert not second.changed
    assert second.installed == first.installed
    assert board.sent == []
    assert {path: path.lstat().st_mtime_ns for path in (board.root / "venvs").rglob("*")} == before
    assert board.status().installed == first.installed

    with AgentSession.open(board.transport(), session_id="s1", root=str(board.root)) as session:
        session.canary()
    board.remove()
    assert list(board.home.iterdir()) == []
    board.remove()
    assert list(board.home.iterdir()) == []


@pytest.mark.slow
def test_another_version_takes_the_place_of_the_first(board):
    board.deploy("onnxruntime==1.0")
    first = (board.root / "venv").readlink()
    done = board.deploy("onnxruntime")
    assert done.installed.packages == {"onnxruntime": "2.0"}
    assert (board.root / "venv").readlink() != first
    assert len(list((board.root / "venvs").iterdir())) == 1


@pytest.mark.slow
def test_an_answer_of_the_index_is_kept_until_it_is_asked_to_look_again(board, index):
    (index / "onnxruntime-2.0-py3-none-any.whl").unlink()
    assert board.deploy("onnxruntime").installed.packages["onnxruntime"] == "1.0"
    make_wheel(index, "onnxruntime", "2.0", DYING)
    assert not board.deploy("onnxruntime").changed
    assert board.deploy("onnxruntime", refresh=True).installed.packages["onnxruntime"] == "2.0"


@pytest.mark.slow
def test_a_damaged_download_is_fetched_again(board):
    board.deploy("onnxruntime==1.0")
    wheel = next(board.cache.glob("*/helper-*.whl"))
    good = wheel.read_bytes()
    wheel.write_bytes(good[:-1])
    assert not board.deploy("onnxruntime==1.0").changed
    assert next(board.cache.glob("*/helper-*.whl")).read_bytes() == good


@pytest.mark.slow
def test_an_interrupted_installation_is_begun_again(board):
    board.deploy("onnxruntime==1.0")
    link = board.root / "venv"
    (link / "hwloop.json").unlink()
    (link / "bin/python").unlink()
    assert board.status().installed is None
    assert board.deploy("onnxruntime==1.0").changed
    assert (link / "bin/python").exists()


def test_a_wheel_that_arrived_damaged_is_not_installed(board):
    class Damaging(LocalTransport):
        def put(self, data: bytes, remote_path: str) -> None:
            if "helper" in remote_path:
                data = make_damaged(data)
            super().put(data, remote_path)

    def make_damaged(data: bytes) -> bytes:
        stream = io.BytesIO(data)
        with zipfile.ZipFile(stream, "a") as archive:
            archive.writestr("helper/more.py", "evil = True\n")
        return stream.getvalue()

    with pytest.raises(AgentError, match="DO NOT MATCH THE HASHES"):
        deploy(Damaging(), ["onnxruntime==1.0"], Silent(), root=str(board.root), cache=board.cache)
    assert not (board.root / "venv").exists()


@pytest.mark.slow
def test_the_devices_own_pip_settings_change_nothing(board, monkeypatch, tmp_path):
    made = board.deploy("onnxruntime==2.0")
    board.remove()
    (tmp_path / "pip.conf").write_text("[install]\nuser = true\nrequire-virtualenv = false\ntarget = /nowhere\n")
    # The agent inherits this; the download has been made.
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_TARGET", "/nowhere")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    assert board.deploy("onnxruntime==2.0").installed == made.installed


def test_a_device_without_room_is_told_before_anything_is_sent(board):
    board.free = 1 << 20
    with pytest.raises(AgentError, match="has 1 MiB left"):
        board.deploy("onnxruntime==1.0")
    assert not any(name.endswith(".whl") for name in board.sent)


def test_a_version_that_does_not_exist_is_said_in_one_line(board):
    with pytest.raises(UserError, match=r"onnxruntime==7.7 has no wheel .* newest that it has are 1.0, 2.0") as refusal:
        board.deploy("onnxruntime==7.7")
    assert "\n" not in str(refusal.value)


def test_what_only_this_machine_would_need_is_not_asked_for(index, tmp_path):
    here = 'absent; platform_machine == "x86_64"'
    make_wheel(index, "first", "1.0", "", (here, 'helper; platform_machine == "aarch64"'))
    lock, folder = Wheelhouse(tmp_path / "wheels").fetch(["first"], PI)
    assert lock.versions == {"first": "1.0", "helper": "3.1"}
    assert {path.name for path in folder.glob("*.whl")} == {one.filename for one in (*lock.wheels, lock.installer)}


def test_versions_are_traded_against_each_other_where_the_newest_do_not_fit_together(index, tmp_path):
    make_wheel(index, "first", "1.0", "")
    make_wheel(index, "first", "2.0", "", ("helper<3",))
    make_wheel(index, "helper", "2.0", "", ("absent",))
    lock, _ = Wheelhouse(tmp_path / "wheels").fetch(["first"], PI)
    assert lock.versions == {"first": "1.0"}


def test_a_dependency_is_taken_in_a_version_that_all_can_use(index, tmp_path):
    make_wheel(index, "first", "1.0", "", ("second",))
    make_wheel(index, "second", "1.0", "", ("helper<3",))
    make_wheel(index, "third", "1.0", "", ("helper",))
    make_wheel(index, "helper", "2.5", "")
    lock, folder = Wheelhouse(tmp_path / "wheels").fetch(["first", "third"], PI)
    assert lock.versions == {"first": "1.0", "second": "1.0", "third": "1.0", "helper": "2.5"}
    assert len(list(folder.glob("*.whl"))) == 5


@pytest.mark.slow
def test_while_somebody_measures_nothing_is_installed_or_removed(board):
    board.deploy("onnxruntime==1.0")
    with (board.root / "lease").open("r+b") as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        with pytest.raises(AgentError, match="the device is in use"):
            board.remove()
    assert board.status().installed is not None


@pytest.mark.slow
def test_what_others_keep_beside_the_agent_stays(board):
    board.deploy("onnxruntime==2.0")
    (board.root / "mine").write_text("precious")
    board.remove()
    assert [path.name for path in board.root.iterdir()] == ["mine"]


def test_a_program_that_says_nothing_sensible_is_an_error(board, tmp_path):
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho Welcome to the board\necho 'no python here' >&2\n")
    script.chmod(0o755)
    with pytest.raises(TransportError, match="no python here"):
        status(LocalTransport(str(script)), Silent(), root=str(board.root))


@pytest.mark.slow
def test_a_real_runtime_is_installed_and_runs(tmp_path):
    board = Board(tmp_path)
    done = board.deploy("onnxruntime==1.23.2")
    assert done.broken == {}
    assert done.version("onnxruntime") == "1.23.2"
    assert done.facts["runtimes"]["onnxruntime"]["run"] == "ok"
    assert not done.facts["emulated"]
    board.remove()
    assert list(board.home.iterdir()) == []
