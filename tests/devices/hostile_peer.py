"""A peer that starts like an agent and then says what a test wrote into a file: `hostile_peer.py FILE [agent's argv]`.

The file is JSON. `banner`: hex. `hello`: fields that replace those of a true hello; "absent" removes one. `answers`: a
list of hex lines for each further request, in which `@ID@` and `@SEQ@` are filled in. `piece`: bytes per write.
`stderr_bytes`: flooded before each answer. `then`: `wait` for more, or `exit` when the answers are used up.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import sys
from pathlib import Path


def main() -> None:
    """Play the part."""
    part = json.loads(Path(sys.argv[1]).read_text())
    argv = sys.argv[2:]
    given = dict(itertools.pairwise(argv))
    archive = argv[2]
    nonce, root, session = given["--nonce"], given["--root"], given["--session"]
    seq = 0

    def say(data: bytes) -> None:
        flood = part.get("stderr_bytes", 0)
        for _ in range(0, flood, 65536):
            os.write(2, b"\x1b[31mnoise\xff\n" * 5000)
        piece = part.get("piece", 1 << 16)
        for place in range(0, len(data), piece):
            os.write(1, data[place : place + piece])

    banner = bytes.fromhex(part.get("banner", ""))
    say(banner + f"HWLOOP1 READY {nonce}\n".encode())
    hello = {
        "agent_sha256": hashlib.sha256(Path(archive).read_bytes()).hexdigest(),
        "version": "0",
        "python": "3.8.0",
        "worker_python": "/p",
        "pid": 1,
        "boot_id": None,
        "mono_ns": 1,
        "artifacts": f"{root}/sessions/{session}/artifacts",
        "cpus": [0],
        "journal": {"last_seq": 0, "cut_bytes": 0},
        **part.get("hello", {}),
    }
    hello = {key: value for key, value in hello.items() if value != "absent"}
    answers = [[bytes.fromhex(line) for line in lines] for lines in part.get("answers", [])]
    for line in sys.stdin.buffer:
        request = json.loads(line)
        if request["type"] == "hello":
            seq += 1
            message = {"v": 1, "id": request["id"], "seq": seq, "type": "hello", "body": hello}
            say(json.dumps(message).encode() + b"\n")
            continue
        if request["type"] == "bye":
            seq += 1
            say(json.dumps({"v": 1, "id": request["id"], "seq": seq, "type": "bye", "body": {}}).encode() + b"\n")
            return
        for answer in answers.pop(0) if answers else []:
            seq += 1
            say(answer.replace(b"@ID@", b"%d" % request["id"]).replace(b"@SEQ@", b"%d" % seq))
        if not answers and part.get("then") == "exit":
            return


main()
