"""What host and agent say to each other: one JSON object per line, at most 1 MiB, nothing implicit.

`device_agents/README.md` goes through the protocol field by field, with the reasons. The host imports this module
and `journal`, and nothing else of the agent, so both ends share one definition.
"""

from __future__ import annotations

import json
import re
from typing import Any, Dict, List, NamedTuple, Union

from hwloop_agent.digest import hex_digest

Json = Dict[str, Any]

PROTOCOL_VERSION = 1
READY_PREFIX = b"HWLOOP1 READY "
MAX_BANNER_BYTES = 64 * 1024
MAX_LINE_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_INTEGER_DIGITS = 20
MAX_LOG_CHARACTERS = 8 * 1024
MAX_TRIAL_S = 600.0

HEARTBEAT_S = 5.0
# While a worker is timing, the supervisor sends nothing, so that it wakes no core; but never for longer than this.
MAX_QUIET_S = 15.0
# A host that waits says so this often; one that has not said a word for as long as `ABSENT_S` is gone, and the agent
# finishes its trial and leaves. Without it a network that drops everything silently holds the device for a quarter of
# an hour, until the kernel's TCP gives up.
PING_S = 10.0
ABSENT_S = 45.0
# How much longer a host may announce to be silent, while it stores a large file over a slow link.
MAX_PATIENCE_S = 3600.0

HOST_TYPES = frozenset(
    ["hello", "facts", "verify", "trial.run", "trial.cancel", "journal.read", "journal.ack", "canary", "ping", "bye"]
)
AGENT_TYPES = frozenset(
    [
        "hello",
        "facts",
        "verified",
        "trial.accepted",
        "trial.phase",
        "trial.result",
        "trial.failed",
        "trial.cancelled",
        "journal.batch",
        "journal.acked",
        "canary",
        "bye",
        "heartbeat",
        "log",
        "error",
    ]
)

STATUSES = ("ok", "degraded", "invalid", "crashed", "oom", "timeout", "cancelled", "unsupported")
SUFFIXES = (".onnx", ".ort", ".tflite", ".so", ".calls", ".bin")

NONCE = re.compile(r"[0-9a-f]{16,64}\Z")
SHA256 = re.compile(r"[0-9a-f]{64}\Z")
SESSION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
TRIAL_ID = re.compile(r"[0-9a-f]{64}:[1-9][0-9]{0,5}\Z")


class FrameError(ValueError):
    """A line that the protocol does not allow.

    Attributes:
        code: what is wrong with it, one word: `oversize`, `utf8`, `json`, `number`, `duplicate`, `depth`, `text`,
            `envelope`, `version` or `type`.
        message_id: the `id` of the offending message where it could be read, else 0.
    """

    def __init__(self, code: str, text: str, message_id: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.message_id = message_id


class Message(NamedTuple):
    """One envelope: `id` pairs an answer with its request, `seq` counts what the sender has sent."""

    id: int
    seq: int
    type: str
    body: Json


def canonical_json(value: Any) -> bytes:
    """Return the one spelling of `value` that is hashed, checked and sent: ASCII, sorted keys, no spaces.

    Raises:
        ValueError: a number that is not finite, or a value that JSON does not have.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, RecursionError) as error:
        raise ValueError("not JSON: " + str(error)) from None
    return text.encode("ascii")


def _whole_number(text: str) -> int:
    # Python 3.8 converts a megabyte of digits in quadratic time, and no field needs more than 64 bits.
    if len(text) > MAX_INTEGER_DIGITS:
        raise FrameError("number", f"a whole number of more than {MAX_INTEGER_DIGITS} digits")
    return int(text)


def _real_number(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise FrameError("number", "a number beyond what a double holds")
    return number


def _not_a_number(text: str) -> float:
    raise FrameError("number", text + " is not JSON")


def _unique_keys(pairs: List[Any]) -> Json:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FrameError("duplicate", "a JSON object names a key twice")
    return found


# One token at a time, none of which can fail late: a pattern for whole strings takes quadratic time on half of one.
_NESTING = re.compile(r'\\.|["\[\]{}]', re.DOTALL)


def _check_depth(text: str) -> None:
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth, inside_text = 0, False
    for token in _NESTING.finditer(text):
        sign = token.group()
        if sign == '"':
            inside_text = not inside_text
        elif not inside_text and len(sign) == 1:
            depth += 1 if sign in "[{" else -1
            if depth > MAX_DEPTH:
                raise FrameError("depth", f"JSON nested deeper than {MAX_DEPTH}")


def parse_json(line: bytes) -> Any:
    """Read strict JSON: UTF-8, no NaN, no duplicate keys, bounded depth and numbers, no lone surrogates.

    Raises:
        FrameError: with the code that names the fault.
    """
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise FrameError("utf8", f"byte {error.start} is not UTF-8") from None
    _check_depth(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_int=_whole_number,
            parse_float=_real_number,
            parse_constant=_not_a_number,
        )
    except FrameError:
        raise
    except (ValueError, RecursionError) as error:
        raise FrameError("json", str(error)) from None
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError:
            raise FrameError("text", "half a surrogate pair is not text") from None
    return value


def encode(message: Message) -> bytes:
    """Return the line, newline included, that carries `message`.

    Raises:
        FrameError: `oversize`, when the line would be longer than a peer accepts.
        ValueError: the body is not JSON.
    """
    envelope = {
        "v": PROTOCOL_VERSION,
        "id": message.id,
        "seq": message.seq,
        "type": message.type,
        "body": message.body,
    }
    line = canonical_json(envelope) + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise FrameError("oversize", f"{message.type} would take {len(line)} bytes", message.id)
    return line


def _is_count(value: Any, bits: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < (1 << bits)


def decode(line: bytes, types: frozenset[str]) -> Message:
    """Read one line without its newline; `types` are the message types that this end understands.

    Raises:
        FrameError: whatever is wrong with the line; carries the message's id where that could be read.
    """
    value = parse_json(line)
    if not isinstance(value, dict):
        raise FrameError("envelope", "a message is a JSON object")
    message_id: int = value.get("id", -1)
    if not _is_count(message_id, 32):
        raise FrameError("envelope", "id is a whole number of 32 bits")
    if not _is_count(value.get("v"), 32) or value["v"] != PROTOCOL_VERSION:
        raise FrameError("version", f"v is {PROTOCOL_VERSION} here", message_id)
    if set(value) != {"v", "id", "seq", "type", "body"}:
        raise FrameError("envelope", "a message has exactly v, id, seq, type, body", message_id)
    if not _is_count(value["seq"], 64):
        raise FrameError("envelope", "seq is a whole number of 64 bits", message_id)
    if not isinstance(value["body"], dict):
        raise FrameError("envelope", "body is a JSON object", message_id)
    if not isinstance(value["type"], str) or value["type"] not in types:
        raise FrameError("type", f"message type {str(value['type'])[:40]!r} is not known here", message_id)
    return Message(message_id, value["seq"], value["type"], value["body"])


class LineReader:
    """Cuts a byte stream into lines in bounded memory, whatever the sizes of the pieces it arrives in."""

    def __init__(self, limit: int = MAX_LINE_BYTES) -> None:
        self._limit = limit
        self._held = bytearray()
        self._skipping = False

    @property
    def held_bytes(self) -> int:
        """How much of an unfinished line is held."""
        return len(self._held)

    def feed(self, data: bytes) -> List[Union[bytes, FrameError]]:
        """Take the next bytes; return the lines they complete, without newlines.

        A line beyond the limit is dropped up to its newline and reported in its place as a `FrameError`.
        """
        lines: List[Union[bytes, FrameError]] = []
        start = 0
        while True:
            end = data.find(b"\n", start)
            piece = data[start:] if end < 0 else data[start:end]
            if not self._skipping:
                if len(self._held) + len(piece) >= self._limit:
                    self._skipping = True
                    self._held.clear()
                    lines.append(FrameError("oversize", f"a line of more than {self._limit} bytes"))
                else:
                    self._held += piece
            if end < 0:
                return lines
            if not self._skipping:
                lines.append(bytes(self._held))
            self._held.clear()
            self._skipping = False
            start = end + 1


def spec_digest(spec: Json) -> str:
    """Return the SHA-256 of the canonical spelling of a trial's spec."""
    return hex_digest(canonical_json(spec))


def trial_id(spec: Json, attempt: int = 1) -> str:
    """Return the id of the `attempt`-th trial of `spec`: equal specs have equal ids on every machine."""
    if attempt < 1:
        raise ValueError("attempts count from 1")
    return f"{spec_digest(spec)}:{attempt}"


def artifact_name(sha256: str, suffix: str) -> str:
    """Return the only file name that an artifact can have: its hash and a known suffix.

    Raises:
        ValueError: anything that is not 64 hex digits plus one of `SUFFIXES`; no path can be made from it.
    """
    if not isinstance(sha256, str) or not SHA256.match(sha256):
        raise ValueError("sha256 is 64 lower-case hex digits")
    if suffix not in SUFFIXES:
        raise ValueError("suffix is one of " + " ".join(SUFFIXES))
    return sha256 + suffix


def clean_text(text: str, limit: int) -> str:
    """Return `text` without control characters (no terminal escapes pass), its last `limit` characters."""
    kept = text[-limit:]
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in kept)
