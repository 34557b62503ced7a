"""The agent's command line. `serve` and `provision` are what hosts start; `worker` is what the supervisor starts.

The first thing that happens, before anything can print, is that the real stdout is moved away: file descriptor 1
becomes stderr, so no library's message can ever be taken for a line of the protocol.
"""

from __future__ import annotations

import os
import sys
from typing import Dict, List

USAGE = (
    "usage: agent.pyz serve --root DIR --session ID --nonce HEX [--worker-python PATH]\n"
    "       agent.pyz provision state|install|remove JSON\n"
    "       agent.pyz tune show|hold|restore JSON\n"
)
EXIT_USAGE = 2


def _arguments(words: List[str]) -> Dict[str, str]:
    """Return `--name value` pairs. Raises `ValueError` for anything else, a repeated or a missing name."""
    found: Dict[str, str] = {"worker-python": sys.executable}
    if len(words) % 2:
        raise ValueError("every option has one value")
    given = dict(zip(words[::2], words[1::2]))
    if len(given) != len(words) // 2 or set(given) - {"--root", "--session", "--nonce", "--worker-python"}:
        raise ValueError("an option is unknown or named twice")
    found.update((name[2:], value) for name, value in given.items())
    missing = {"root", "session", "nonce"} - set(found)
    if missing:
        raise ValueError("missing: --" + " --".join(sorted(missing)))
    return found


def serve(words: List[str], archive: str) -> int:
    """Start a session: protect stdout, say READY with the host's nonce, and serve until stdin ends."""
    private = os.dup(1)
    os.dup2(2, 1)
    from hwloop_agent import protocol
    from hwloop_agent.supervisor import Options, Supervisor

    try:
        found = _arguments(words)
        if not protocol.NONCE.match(found["nonce"]):
            raise ValueError("--nonce is 16 to 64 hex digits")
        if not protocol.SESSION_ID.match(found["session"]):
            raise ValueError("--session is up to 64 of A-Z a-z 0-9 . _ -, a letter or digit first")
    except ValueError as error:
        sys.stderr.write(f"{error}\n{USAGE}")
        return EXIT_USAGE
    root = os.path.abspath(os.path.expanduser(found["root"]))
    options = Options(archive, root, found["session"], found["nonce"], found["worker-python"])
    supervisor = Supervisor(options, 0, private)
    os.write(private, protocol.READY_PREFIX + found["nonce"].encode("ascii") + b"\n")
    if archive.startswith(os.path.join(root, "agents", "")):
        _compile_once(archive)
    return supervisor.serve()


def _compile_once(archive: str) -> None:
    from hwloop_agent import compiled

    if not compiled.is_kept(archive):
        # In a process of its own: the compiler would leave this one twice as large.
        child = os.fork()
        if not child:
            compiled.keep(archive)
            os._exit(0)
        os.waitpid(child, 0)


def main() -> int:
    """Run the command that the arguments name; return the exit code."""
    archive = os.path.abspath(sys.argv[0])
    command, words = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("", [])
    if command == "serve":
        return serve(words, archive)
    if command == "provision" and words:
        from hwloop_agent import provision

        return provision.main(words)
    if command == "tune" and words:
        from hwloop_agent.sensors import tuning

        return tuning.main(words)
    if command == "worker" and len(words) == 1 and words[0].isdigit():
        from hwloop_agent import worker

        worker.main(int(words[0]))
    sys.stderr.write(USAGE)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(main())
