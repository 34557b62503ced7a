"""The study directory: where each stage leaves its result, and the guard that only one run writes there.

::

    study.toml        the settings, as they were when the study began
    study.json        fingerprint of the settings, and the versions that began it
    grain.json        the sweep that showed the grain
    base.pt           state_dict of the base network;  base.json  its accuracy
    space.json        the pruning space and the channel order
    shared.pt         the weights that all candidates share, where the judge wants them
    trials.ndjson     journal of all trials (the record of truth)
    table.parquet     latency table;  predictor.json  the fitted predictor;  holdout.json  its held-out networks
    search.ndjson     journal of all evaluations, and of what the device was sent and said meanwhile
    proxy.ndjson      of `hwloop pruning validate-proxy`
    netadapt/*.pt     weights on their way through NetAdapt
    emo-dir/          weights of EMO-DIR's trained sub-networks, and a journal of each part's search
    models/*.onnx     the networks that were chosen, and the base
    front.csv, report.html
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import hwloop
from hwloop.errors import StudyError
from hwloop.files import write_atomic
from hwloop.study.config import StudyConfig


class StudyDirectory:
    """An open study directory; a context manager that holds its lock.

    Args:
        root: the directory; made when absent.
        config: the settings of the study that wants it.
        toml: the text of its study file, kept beside the results.

    Raises:
        StudyError: it belongs to a study with other settings, is in use by another run, or is no study directory.
    """

    def __init__(self, root: Path, config: StudyConfig, toml: str) -> None:
        self.root = root
        self.resumed = (root / "study.json").exists()
        try:
            root.mkdir(parents=True, exist_ok=True)
            (root / "models").mkdir(exist_ok=True)
            self._lock = os.open(root / ".lock", os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise StudyError(f"{root}: cannot be used as study directory ({error.strerror})") from error
        try:
            self._take_lock()
            self._claim(config, toml)
        except BaseException:
            os.close(self._lock)
            raise

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._lock, 64, 0).decode(errors="replace").strip() or "unknown"
            raise StudyError(
                f"{self.root}: another run works here (process {holder}); wait for it or end it"
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, str(os.getpid()).encode(), 0)

    def _claim(self, config: StudyConfig, toml: str) -> None:
        identity = self.root / "study.json"
        if identity.exists():
            try:
                known = json.loads(identity.read_text())["settings"]
            except (ValueError, KeyError, TypeError) as error:
                raise StudyError(f"{identity}: is damaged; restore it or choose another directory") from error
            differing = _differences(known, config.content())
            if differing:
                raise StudyError(
                    f"{self.root}: holds another study: {'; '.join(differing[:3])}"
                    f"{' …' if len(differing) > 3 else ''}; set study.directory to another folder"
                )
            return
        others = [p.name for p in self.root.iterdir() if p.name not in (".lock", "models", "study.toml")]
        if others:
            raise StudyError(
                f"{self.root}: is not empty and no study directory (holds {others[0]});"
                " set study.directory to another folder"
            )
        write_atomic(self.root / "study.toml", toml)
        self.write_json(
            "study.json",
            {"settings": config.content(), "fingerprint": config.fingerprint, "hwloop": hwloop.__version__},
        )

    def path(self, *parts: str) -> Path:
        """Path of a file of the study."""
        return self.root.joinpath(*parts)

    def has(self, *parts: str) -> bool:
        """Whether a stage's result is there; results are written whole or not at all."""
        return self.path(*parts).exists()

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON result atomically."""
        write_atomic(self.path(name), json.dumps(content, indent=1, sort_keys=True) + "\n")

    def read_json(self, name: str) -> Any:
        """Read a JSON result.

        Raises:
            StudyError: the file is damaged.
        """
        try:
            return json.loads(self.path(name).read_text())
        except ValueError as error:
            raise StudyError(
                f"{self.path(name)}: is damaged ({error}); delete it and its stage is run again"
            ) from error

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock)

    def __enter__(self) -> StudyDirectory:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _differences(known: Any, wanted: Any, place: str = "") -> list[str]:
    if isinstance(known, dict) and isinstance(wanted, dict):
        return [
            line
            for key in sorted(known.keys() | wanted.keys())
            for line in _differences(known.get(key), wanted.get(key), f"{place}.{key}" if place else key)
        ]
    return [] if known == wanted else [f"{place} is {known!r} there, {wanted!r} here"]
