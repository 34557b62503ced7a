"""Ways to spoil a frame: bytes, tokens, envelopes, types of fields. Seeded, a few microseconds each."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

from hwloop_agent import protocol

Json = dict[str, Any]

TOKENS = (
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-1e-999",
    b"9" * 30,
    b'"\\ud800"',
    b'"\\u0000"',
    b"\xff\xfe",
    b"\xed\xa0\x80",
    b"\xc0\xaf",
    b"\x00",
    b"\x1b[2J",
    b"\r",
    b"\n",
    b"\\",
    b'"',
    b"[" * 40,
    b"]" * 40,
    b'{"a":' * 40,
    b'"v":1,',
    b'"id":1,',
    b'{"v":1,"v":1}',
    b"../../../etc/passwd",
    b"null",
    b"true",
    b"HWLOOP1 READY ",
)
VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    1.0,
    0.5,
    1 << 31,
    (1 << 63) - 1,
    -(1 << 63),
    1e308,
    float("nan"),
    float("inf"),
    "",
    "0",
    "\x1b[31m\x07",
    "\ud800",
    "../../x",
    "/etc/passwd",
    "a\x00b",
    "x" * 300,
    [],
    [None],
    [[]],
    [1, "2", {}],
    {},
    {"": None},
    {"a": {"b": [1]}},
)
# Long lines are rare: a million of them would be a terabyte.
LONG_ONE_IN = 20_000
WANTED = 0.9


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += _paths(inner, (*path, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value[:3]):
            found += _paths(inner, (*path, place))
    return found


class Hostile:
    """Draws spoiled frames from valid ones.

    Args:
        seed: of the draws.
        messages: valid messages, `(type, body)`.
    """

    def __init__(self, seed: int, messages: Sequence[tuple[str, Json]]) -> None:
        self._draw = random.Random(seed)
        self._messages = [(type_, json.dumps(body), _paths(body)) for type_, body in messages]
        self._by_type = {type_: [one for one in self._messages if one[0] == type_] for type_, _ in messages}
        self._pool = self._messages
        self._ways: list[Callable[[bytes], bytes]] = [
            self._flip,
            self._cut_out,
            self._repeat,
            self._truncate,
            self._insert,
            self._insert,
            self._splice,
        ]

    def frame(self, id_: int, seq: int, wanted: str = "") -> bytes:
        """One frame without its newline: as it should be, or spoiled in one to three ways; mostly of type `wanted`."""
        draw = self._draw
        self._pool = self._by_type.get(wanted, self._messages) if draw.random() < WANTED else self._messages
        if draw.random() < 1 / LONG_ONE_IN:
            return self._long()
        kind = draw.random()
        if kind < 0.05:
            return draw.randbytes(draw.randrange(80))
        if kind < 0.55:
            return self._confused(id_, seq)
        line = self._valid(id_, seq)
        if kind < 0.65:
            return line
        for _ in range(draw.choice((1, 1, 2, 3))):
            line = draw.choice(self._ways)(line)
        return line

    def pieces(self, data: bytes) -> list[bytes]:
        """The same bytes as they may arrive: whole, byte by byte, or in odd pieces."""
        draw = self._draw
        if len(data) > 4096 or draw.random() < 0.5:
            return [data]
        if len(data) < 1024 and draw.random() < 0.02:
            return [data[place : place + 1] for place in range(len(data))]
        cuts = sorted(draw.randrange(len(data) + 1) for _ in range(3))
        return [data[low:high] for low, high in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    def _valid(self, id_: int, seq: int) -> bytes:
        type_, body, _ = self._draw.choice(self._pool)
        return f'{{"body":{body},"id":{id_},"seq":{seq},"type":"{type_}","v":1}}'.encode()

    def _confused(self, id_: int, seq: int) -> bytes:
        """The right JSON with something of the wrong type, missing or too much in it."""
        draw = self._draw
        type_, text, paths = draw.choice(self._pool)
        message: Json = {"v": 1, "id": id_, "seq": seq, "type": type_, "body": json.loads(text)}
        for _ in range(draw.choice((1, 1, 2))):
            path = ("body", *draw.choice(paths)) if paths and draw.random() < 0.8 else (draw.choice(list(message)),)
            holder: Any = message
            try:
                for key in path[:-1]:
                    holder = holder[key]
                if draw.random() < 0.2:
                    del holder[path[-1]]
                elif draw.random() < 0.1:
                    holder["added"] = copy.deepcopy(draw.choice(VALUES))
                else:
                    holder[path[-1]] = copy.deepcopy(draw.choice(VALUES))
            except (KeyError, IndexError, TypeError):
                pass  # an earlier change took the place away
            if not message:
                break
        return json.dumps(message).encode("utf-8", "surrogatepass")

    def _long(self) -> bytes:
        size = protocol.MAX_LINE_BYTES + self._draw.choice((-1, 0, 1, 70_000))
        unit = self._draw.choice((b"x", b'\\"', b"[]", b"{},", b"1,", b'"', b"\xff", b"[", b"9", b'"a":1,'))
        start = self._draw.choice((b"", b'"', b"[", b'{"v":1,"id":1,"seq":1,"type":"hello","body":['))
        return (start + unit * (size // len(unit)))[:size]

    def _place(self, line: bytes) -> int:
        return self._draw.randrange(len(line) + 1)

    def _flip(self, line: bytes) -> bytes:
        place = self._place(line)
        return line[:place] + bytes([self._draw.randrange(256)]) + line[place + 1 :]

    def _cut_out(self, line: bytes) -> bytes:
        low, high = sorted((self._place(line), self._place(line)))
        return line[:low] + line[high:]

    def _repeat(self, line: bytes) -> bytes:
        low, high = sorted((self._place(line), self._place(line)))
        return line[:high] + line[low:high] + line[high:]

    def _truncate(self, line: bytes) -> bytes:
        return line[: self._place(line)]

    def _insert(self, line: bytes) -> bytes:
        place = self._place(line)
        return line[:place] + self._draw.choice(TOKENS) + line[place:]

    def _splice(self, line: bytes) -> bytes:
        return line[: self._place(line)] + self._valid(1, 1)[self._draw.randrange(40) :]
