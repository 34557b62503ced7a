"""The agent's code as this interpreter loads it, kept beside the agent's file, so that a board compiles it once.

Compiling takes a third of a worker's start, every time: a zip file has no `__pycache__`. The copy is a zip file of
`.pyc` files (PEP 552, unchecked: its sources never change, their hash is the name of the folder), one for each kind of
interpreter, named by its magic number. Its last eight bytes are the CRC-32 of all before them; a copy that does not fit
them is not used. `ENTRY` in `hwloop/devices/zipapp.py` looks for it.
"""

from __future__ import annotations

import os
import sys

# `importlib.util` has it too, and half a megabyte of other things.
MAGIC_NUMBER: bytes = getattr(sys.modules.get("_frozen_importlib_external"), "MAGIC_NUMBER", b"")
MARK = b"00000000"


def path_of(archive: str) -> str:
    """Return where the copy for this interpreter lies."""
    return os.path.join(os.path.dirname(archive), MAGIC_NUMBER.hex() + ".zip")


def is_kept(archive: str) -> bool:
    """Say whether this process has been started with the copy."""
    return path_of(archive) in sys.path


def keep(archive: str) -> None:
    """Make the copy; one that cannot be written costs a little time at each start, and nothing else."""
    path = path_of(archive)
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(compiled(archive))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, ValueError, SyntaxError):
        if os.path.exists(temporary):
            os.unlink(temporary)


def compiled(archive: str) -> bytes:
    """Return the copy's bytes."""
    # Here and not above: what starts with the copy needs none of this.
    import io
    import marshal
    import zipfile
    import zlib

    unchecked = (1).to_bytes(4, "little") + bytes(8)
    made = io.BytesIO()
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as bundle:
        for name in source.namelist():
            data = source.read(name)
            if name == "__main__.py":
                continue
            if name.endswith(".py"):
                code = compile(data, os.path.join(archive, name), "exec", dont_inherit=True)
                name, data = name + "c", MAGIC_NUMBER + unchecked + marshal.dumps(code)
            bundle.writestr(name, data)
        bundle.comment = MARK
    body = made.getvalue()[: -len(MARK)]
    return body + b"%08x" % zlib.crc32(body)
