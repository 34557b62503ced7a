"""SHA-256 without OpenSSL.

`hashlib` loads libcrypto, which costs the idle supervisor about 4 MB of resident memory, a quarter of all it uses;
the interpreter's own implementation is slower per byte, and fast enough for models of a few megabytes.
"""

from __future__ import annotations

import os
from typing import Any

BLOCK_BYTES = 1 << 20


def _find_sha256() -> Any:
    # In turn: Python 3.12 and newer, Python 3.8 to 3.11, an interpreter that was built without either.
    for module in ("_sha2", "_sha256", "hashlib"):
        try:
            return __import__(module).sha256
        except ImportError:
            continue
    raise ImportError("this Python has no SHA-256")


_sha256 = _find_sha256()


def hex_digest(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 lower-case hex digits."""
    digest: str = _sha256(data).hexdigest()
    return digest


def hex_digest_of(descriptor: int) -> str:
    """Return the SHA-256 of what the open file `descriptor` holds, read from its start in bounded blocks."""
    running = _sha256()
    offset = 0
    while True:
        block = os.pread(descriptor, BLOCK_BYTES, offset)
        if not block:
            digest: str = running.hexdigest()
            return digest
        running.update(block)
        offset += len(block)
