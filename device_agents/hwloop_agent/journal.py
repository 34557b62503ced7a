r"""Append-only records that survive a kill at any instruction.

One line per record: `{"crc":"8 hex","rec":{…},"seq":n}`; `crc` is the CRC-32 of the canonical JSON of `[seq, rec]`, and
`seq` counts without gaps. Opening keeps the longest valid prefix and moves whatever follows it into a file beside the
journal, so bytes are set aside and reported, never guessed at and never thrown away.

One process writes a journal at a time; the owner sees to that with its own lock (the device's lease, the study's lock).
"""

from __future__ import annotations

import binascii
import os
from typing import Any, List, NamedTuple, Optional, Tuple, Union

from hwloop_agent.protocol import FrameError, Json, canonical_json, parse_json

PathLike = Union[str, "os.PathLike[str]"]


class JournalFullError(OSError):
    """The journal has reached its size limit; nothing was written."""


class Scan(NamedTuple):
    """What a journal's bytes hold: the valid records with their sequence numbers, and where validity ends."""

    records: List[Json]
    sequence: List[int]
    valid_bytes: int


def _crc(seq: int, rec: Json) -> str:
    return "%08x" % (binascii.crc32(canonical_json([seq, rec])) & 0xFFFFFFFF)


def line_of(seq: int, rec: Json) -> bytes:
    """Return the line, newline included, that stores `rec` under `seq`."""
    return canonical_json({"seq": seq, "crc": _crc(seq, rec), "rec": rec}) + b"\n"


def _read_line(line: bytes) -> Optional[Tuple[int, Json]]:
    try:
        value = parse_json(line)
    except FrameError:
        return None
    if not isinstance(value, dict) or set(value) != {"seq", "crc", "rec"}:
        return None
    seq, rec = value["seq"], value["rec"]
    if not isinstance(seq, int) or isinstance(seq, bool) or seq < 1 or not isinstance(rec, dict):
        return None
    return (seq, rec) if value["crc"] == _crc(seq, rec) else None


def scan(data: bytes) -> Scan:
    """Return the longest valid prefix of `data`: whole lines, right checksums, numbers without a gap."""
    records: List[Json] = []
    sequence: List[int] = []
    offset = 0
    while True:
        end = data.find(b"\n", offset)
        if end < 0:
            break
        found = _read_line(data[offset:end])
        if found is None or (sequence and found[0] != sequence[-1] + 1):
            break
        sequence.append(found[0])
        records.append(found[1])
        offset = end + 1
    return Scan(records, sequence, offset)


def read_records(path: PathLike) -> Tuple[List[Json], int]:
    """Return the valid records of the journal at `path`, and how many bytes after them are not; changes nothing.

    Raises:
        OSError: the file cannot be read; a file that does not exist holds no records.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return [], 0
    found = scan(data)
    return found.records, len(data) - found.valid_bytes


def sync_directory(path: PathLike) -> None:
    """Make the names in the directory `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _write_new(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write_all(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _set_aside(path: str, offset: int, data: bytes) -> str:
    """Store `data`, found at `offset` of the journal, under a name that nothing has yet."""
    name = f"{path}.cut-{offset}"
    attempt = 0
    while True:
        try:
            _write_new(name, data)
            return name
        except FileExistsError:
            attempt += 1
            name = f"{path}.cut-{offset}.{attempt}"


class Journal:
    """An open journal.

    Attributes:
        path: where it is.
        records: the valid records, in order; what `append` adds is added here too.
        cut_bytes: how many bytes opening moved aside, 0 when the journal was whole.
        cut_path: where they are now, or "".
    """

    def __init__(self, path: str, descriptor: int, found: Scan, *, sync: bool, max_bytes: Optional[int]) -> None:
        """Use `Journal.open`."""
        self.path = path
        self.records = found.records
        self.cut_bytes = 0
        self.cut_path = ""
        self._sequence = found.sequence
        self._descriptor = descriptor
        self._size = found.valid_bytes
        self._sync = sync
        self._max_bytes = max_bytes
        self._broken: Optional[str] = None

    @classmethod
    def open(cls, path: PathLike, *, sync: bool = True, max_bytes: Optional[int] = None) -> Journal:
        """Open the journal at `path`, create it (mode 0600) where there is none, and set a damaged tail aside.

        Args:
            path: the file.
            sync: whether each `append` waits until the record is on the disk.
            max_bytes: the size beyond which `append` refuses; None for no limit.

        Raises:
            OSError: it cannot be created, read or repaired.
        """
        name = os.fspath(path)
        created = not os.path.lexists(name)
        descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if created:
                sync_directory(os.path.dirname(name) or ".")
            data = b""
            while len(data) < os.fstat(descriptor).st_size:
                piece = os.pread(descriptor, 1 << 24, len(data))
                if not piece:
                    break
                data += piece
            found = scan(data)
            journal = cls(name, descriptor, found, sync=sync, max_bytes=max_bytes)
            tail = data[found.valid_bytes :]
            if tail:
                # First the copy, then the cut: a kill between the two leaves the bytes twice, never nowhere.
                journal.cut_path = _set_aside(name, found.valid_bytes, tail)
                os.ftruncate(descriptor, found.valid_bytes)
                os.fsync(descriptor)
                sync_directory(os.path.dirname(name) or ".")
                journal.cut_bytes = len(tail)
        except BaseException:
            os.close(descriptor)
            raise
        return journal

    @property
    def last_seq(self) -> int:
        """The sequence number of the last record; 0 when there is none."""
        return self._sequence[-1] if self._sequence else 0

    def numbered(self, after_seq: int = 0) -> List[Tuple[int, Json]]:
        """Return the records after `after_seq` with their sequence numbers."""
        return [(seq, rec) for seq, rec in zip(self._sequence, self.records) if seq > after_seq]

    def append(self, rec: Json) -> int:
        """Write one record and return its sequence number, once it is stored (and on the disk, with `sync`).

        Raises:
            ValueError: `rec` is not a JSON object that reads back as it was written.
            JournalFullError: it would grow beyond the limit; nothing was written.
            OSError: it could not be written; what was there before still is, and only that.
        """
        if self._broken is not None:
            raise OSError(self._broken)
        if not isinstance(rec, dict):
            raise ValueError("a record is a JSON object")
        # Through JSON and back: keys become text and tuples lists *before* the checksum is taken, and the caller's
        # later changes to its own dict do not reach `records`. The brackets leave room below the depth limit for the
        # line, the batch and the envelope that will carry it.
        stored: Json = parse_json(canonical_json([[[[rec]]]]))[0][0][0][0]
        seq = self.last_seq + 1
        line = line_of(seq, stored)
        if self._max_bytes is not None and self._size + len(line) > self._max_bytes:
            raise JournalFullError(f"{self.path} is full ({self._size} of {self._max_bytes} bytes)")
        try:
            _write_all(self._descriptor, line)
            if self._sync:
                os.fsync(self._descriptor)
        except OSError:
            self._take_back()
            raise
        self._size += len(line)
        self._sequence.append(seq)
        self.records.append(stored)
        return seq

    def _take_back(self) -> None:
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError as error:
            self._broken = f"{self.path} has a torn record that could not be taken back: {error}"

    def drop_through(self, seq: int) -> None:
        """Forget the records up to `seq`, but keep the last one: the count goes on from it.

        Raises:
            OSError: the shorter journal could not be written; the longer one is still there.
        """
        kept = [(n, rec) for n, rec in zip(self._sequence, self.records) if n > seq or n == self.last_seq]
        if len(kept) == len(self.records):
            return
        data = b"".join(line_of(n, rec) for n, rec in kept)
        shorter = self.path + ".new"
        if os.path.lexists(shorter):
            os.unlink(shorter)
        _write_new(shorter, data)
        os.replace(shorter, self.path)
        sync_directory(os.path.dirname(self.path) or ".")
        descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._size = len(data)
        self._sequence = [n for n, _ in kept]
        self.records = [rec for _, rec in kept]

    def close(self) -> None:
        """Close the file; closing twice does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            self._broken = f"{self.path} is closed"

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()
