"""Wheels on this machine: asked for with pip, once, and kept in a cache.

Which index is asked, and how, is pip's own configuration and nothing of hwloop's.
"""

from __future__ import annotations

import email.parser
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Collection, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from packaging.utils import parse_wheel_filename

from hwloop.devices.provisioning.lock import INSTALLER, Lock, Wheel, name_of, needed, question
from hwloop.devices.provisioning.target import Target
from hwloop.errors import HwloopError, UserError
from hwloop_agent.protocol import clean_text

DOWNLOAD_S = 1800.0
MAX_DEPTH, MAX_ROUNDS = 12, 5
LOCK_FILE = "lock.json"
SAID_CHARACTERS = 400
NEWEST = 5


def default_cache() -> Path:
    """Return where wheels are kept: `hwloop-wheels` in the user's cache directory (XDG_CACHE_HOME, else ~/.cache)."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".cache") / "hwloop-wheels"


class Wheelhouse:
    """A directory of downloads, one folder per question to the index.

    Args:
        folder: made when needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fetch(self, requirements: Sequence[str], target: Target, *, refresh: bool = False) -> tuple[Lock, Path]:
        """Return the pinned wheels that meet `requirements` on `target`, and the folder that holds them.

        Args:
            requirements: as pip reads them.
            target: where they must run.
            refresh: ask the index again although the answer is cached, for newer versions.

        Raises:
            UserError: there are no such wheels, or pip is missing here.
            HwloopError: they cannot be stored.
        """
        place = self.folder / question(requirements, target)[:32]
        lock = None if refresh else _cached(place)
        if lock is not None:
            return lock, place
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            work = Path(tempfile.mkdtemp(prefix=".download-", dir=self.folder))
            try:
                lock = _download(requirements, target, work)
                (work / LOCK_FILE).write_text(json.dumps(lock.to_json(), indent=1))
                if place.exists():
                    shutil.rmtree(place)
                with suppress(FileExistsError):
                    work.rename(place)
            finally:
                shutil.rmtree(work, ignore_errors=True)
        except OSError as error:
            raise HwloopError(f"{self.folder} cannot keep the wheels: {error}") from error
        return lock, place


def _cached(place: Path) -> Lock | None:
    """Return the lock of an earlier download if all of its files are still what they were."""
    try:
        lock = Lock.from_json(json.loads((place / LOCK_FILE).read_text()))
        whole = all(_wheel(place / wheel.filename) == wheel for wheel in (*lock.wheels, lock.installer))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return lock if whole else None


def _wheel(path: Path) -> Wheel:
    data = path.read_bytes()
    return Wheel(path.name, sha256(data).hexdigest(), len(data))


def _download(requirements: Sequence[str], target: Target, folder: Path) -> Lock:
    """Download what `requirements` need on the target.

    pip follows dependencies by this machine's markers: of a runtime whose wheel for x86-64 needs CUDA it asks CUDA for
    a board that is none. So they are followed here, one package at a time. Where that ends in a contradiction, versions
    have to be traded against each other, and pip's own resolver is asked.
    """
    try:
        return _follow(requirements, target, folder)
    except UserError as error:
        for path in folder.glob("*.whl"):
            path.unlink()
        try:
            return _resolve(requirements, target, folder)
        except HwloopError:  # the resolver's reasons may be of this machine: the first ones are of the board
            raise error from None


def _follow(requirements: Sequence[str], target: Target, folder: Path) -> Lock:
    asked: dict[str, set[str]] = defaultdict(set)
    missing = {*requirements, INSTALLER}
    for _ in range(MAX_DEPTH):
        for text in missing:
            asked[name_of(text)].add(text)
        names, files = {name_of(text) for text in missing}, _wheels(folder)
        for name in names & files.keys():
            files[name].unlink()
        _pip_download(sorted(text for name in names for text in asked[name]), target, folder, "--no-deps")
        found, missing = _needed(requirements, target, folder)
        if not missing:
            return _lock(found, folder)
    raise _unsettled(requirements, target)


def _resolve(requirements: Sequence[str], target: Target, folder: Path) -> Lock:
    asked = list(requirements)
    for _ in range(MAX_ROUNDS):
        _pip_download([*asked, INSTALLER], target, folder)
        found, missing = _needed(asked, target, folder)
        if not missing:
            return _lock(found, folder)
        asked += sorted(missing)
        for path in folder.glob("*.whl"):  # the answer to the larger question may have other versions
            path.unlink()
    raise _unsettled(requirements, target)


def _unsettled(requirements: Sequence[str], target: Target) -> UserError:
    return UserError(f"the dependencies of {' '.join(requirements)} cannot be settled for {target.name}")


def _wheels(folder: Path) -> dict[str, Path]:
    return {str(parse_wheel_filename(path.name)[0]): path for path in folder.glob("*.whl")}


def _needed(requirements: Sequence[str], target: Target, folder: Path) -> tuple[set[str], set[str]]:
    files = _wheels(folder)
    metadata = {name: _requires(path) for name, path in files.items()}
    versions = {name: parse_wheel_filename(path.name)[1] for name, path in files.items()}
    return needed(requirements, metadata, target, versions)


def _lock(names: Collection[str], folder: Path) -> Lock:
    """The lock of what is needed; what only this machine's markers asked for is not sent."""
    files = _wheels(folder)
    for name in files.keys() - names - {INSTALLER}:
        files[name].unlink()
    return Lock(tuple(sorted(_wheel(files[name]) for name in names)), _wheel(files[INSTALLER]))


def _requires(path: Path) -> list[str]:
    """Return the `Requires-Dist` lines of a wheel."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
            text = archive.read(inside).decode("utf-8", "replace")
    except (zipfile.BadZipFile, StopIteration) as error:
        raise UserError(f"{path.name} from the package index is not a wheel") from error
    return [str(line) for line in email.parser.HeaderParser().parsestr(text).get_all("Requires-Dist", [])]


def _pip_download(requirements: Sequence[str], target: Target, folder: Path, *options: str) -> None:
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    argv += ["--only-binary=:all:", "--implementation", "cp", "--python-version", target.python_version]
    for option, values in (("--platform", target.platforms), ("--abi", target.abis)):
        for value in values:
            argv += [option, value]
    argv += ["--dest", str(folder), *options, *requirements]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DOWNLOAD_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise HwloopError(f"downloading wheels took more than {DOWNLOAD_S:g} s; run the same command again") from None
    if done.returncode:
        raise _explain(done.stderr, requirements, target)


def _explain(output: str, requirements: Sequence[str], target: Target) -> HwloopError:
    if "No module named pip" in output:
        return UserError(f"{sys.executable} has no pip, which downloads the wheels: python -m ensurepip")
    names = " ".join(name for name in requirements if name != INSTALLER)
    said = " ".join(line.removeprefix("ERROR: ") for line in output.splitlines() if line.startswith("ERROR: "))
    text = clean_text(said or output.strip(), SAID_CHARACTERS)
    missing = re.search(r"requirement (\S+) \(from versions: ([^)]*)\)", output)
    if missing is not None:
        known = [version for version in missing[2].split(", ") if version != "none"]
        there = f"the newest that it has are {', '.join(known[-NEWEST:])}" if known else "there are none at all"
        return UserError(f"{clean_text(missing[1], 100)} has no wheel for {target.name}; {there}")
    if "ResolutionImpossible" in output or "conflicting dependencies" in output:
        return UserError(f"{names} cannot be installed together on {target.name}: {text}")
    return HwloopError(f"pip could not download {names}: {text}")
