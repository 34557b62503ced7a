"""Whatever bytes arrive: a message, or an error with a name; never another exception, a hang or unbounded memory."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop_agent import protocol
from hwloop_agent.journal import Journal, line_of, read_records, scan
from hwloop_agent.protocol import FrameError, LineReader, Message

CODES = {"oversize", "utf8", "json", "number", "duplicate", "depth", "text", "envelope", "version", "type"}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
BODIES = st.dictionaries(TEXT, VALUES, max_size=5)


def code_of(line: bytes) -> str:
    """The name of what is wrong with a line, "" when nothing is."""
    try:
        protocol.decode(line, protocol.HOST_TYPES)
    except FrameError as error:
        return error.code
    return ""


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_a_message_or_a_named_error(data: bytes) -> None:
    assert code_of(data) in CODES | {""}


@settings(max_examples=300, deadline=None)
@given(body=BODIES, id_=st.integers(0, 2**32 - 1), seq=st.integers(0, 2**64 - 1), data=st.data())
def test_messages_read_back_and_mutated_ones_are_named(body, id_, seq, data) -> None:
    message = Message(id_, seq, "hello", body)
    line = protocol.encode(message)[:-1]
    assert protocol.decode(line, protocol.HOST_TYPES) == message
    place = data.draw(st.integers(0, len(line) - 1))
    mutated = line[:place] + data.draw(st.binary(max_size=3)) + line[place + 1 :]
    assert code_of(mutated) in CODES | {""}


@settings(max_examples=300, deadline=None)
@given(pieces=st.lists(st.binary(max_size=40) | st.just(b"\n") | st.just(b"x" * 70), max_size=30))
def test_lines_do_not_depend_on_the_pieces_and_memory_is_bounded(pieces) -> None:
    split, whole = LineReader(limit=64), LineReader(limit=64)
    found = []
    for piece in pieces:
        found += split.feed(piece)
        assert split.held_bytes < 64
    expected = whole.feed(b"".join(pieces))
    assert [getattr(one, "code", one) for one in found] == [getattr(one, "code", one) for one in expected]


@settings(max_examples=60, deadline=None)
@given(records=st.lists(BODIES, max_size=5), tail=st.binary(max_size=30), data=st.data())
def test_a_journal_keeps_a_prefix_of_what_was_appended(tmp_path_factory, records, tail, data) -> None:
    path = tmp_path_factory.mktemp("journal") / "j"
    with Journal.open(path, sync=False) as journal:
        for record in records:
            journal.append(record)
        stored = list(journal.records)
    whole = path.read_bytes()
    assert stored == records
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))] + tail)
    damaged = path.read_bytes()
    kept, cut = read_records(path)
    assert kept == stored[: len(kept)]
    with Journal.open(path, sync=False) as journal:
        assert (journal.records, journal.cut_bytes) == (kept, cut)
        if cut:
            assert damaged.endswith(Path(journal.cut_path).read_bytes())
        journal.append({"next": True})
    assert read_records(path) == ([*kept, {"next": True}], 0)


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=300), record=BODIES)
def test_no_bytes_make_a_record_without_its_checksum(data, record) -> None:
    found = scan(line_of(1, record) + data)
    assert found.records[:1] == [json.loads(protocol.canonical_json(record))]
    assert len(found.records) == 1


def test_a_real_agent_survives_a_thousand_hostile_lines(archive, tmp_path) -> None:
    nonce = "0123456789abcdef"
    draw = random.Random(11)
    spec = {
        "artifact": None,
        "runtime": "null",
        "options": {},
        "inputs": [],
        "threads": 1,
        "replicate": 0,
        "timing": {},
    }
    bodies = [
        {"proto": [1], "nonce": nonce},
        {"trial_id": protocol.trial_id(spec), "spec": spec, "deadline_s": 5},
        {"sha256": "a" * 64, "suffix": ".onnx"},
        {"after_seq": 0, "limit": 10},
        {"seq": 0},
        {},
    ]
    argv = [sys.executable, "-I", "-B", str(archive), "serve", "--root", str(tmp_path / "root"), "--nonce", nonce]
    for session in range(18):
        lines = [protocol.encode(Message(1, 1, "hello", bodies[0]))]
        for seq in range(2, 58):
            kind = draw.choice(sorted(protocol.HOST_TYPES - {"bye", "facts", "canary"}))
            line = bytearray(protocol.encode(Message(seq, seq, kind, dict(draw.choice(bodies)))))
            for _ in range(draw.choice([0, 1, 1, 3])):
                line[draw.randrange(len(line) - 1)] = draw.randrange(256)
            lines.append(bytes(line))
        done = subprocess.run(
            [*argv, "--session", f"s{session}"], input=b"".join(lines), capture_output=True, timeout=60
        )
        assert done.returncode in (0, 4), done.stderr
        assert b"Traceback" not in done.stderr
        answers = [protocol.decode(line, protocol.AGENT_TYPES) for line in done.stdout.splitlines()[1:]]
        assert answers[0].type == "hello"
        assert {answer.body["code"] for answer in answers if answer.type == "error"} <= CODES | {
            "bad_request",
            "no_trial",
            "nonce",
            "proto",
        }


# What a reader holds of one line, and what Python makes of the worst line that is one (half a million empty lists).
MEMORY_BYTES = 64 << 20


def fuzz(tmp_path: Path, cases: dict[str, int], seed: int) -> dict[str, dict[str, int]]:
    """Feed spoiled frames to both ends at once, each in a process of its own; what came of them, by end."""
    root = Path(__file__).parents[2]
    running = {}
    for end, count in cases.items():
        folder = tmp_path / end
        folder.mkdir()
        argv = [sys.executable, "-m", "tests.agent.hostile_fuzz", end, str(seed), str(count), str(folder)]
        pipe = subprocess.PIPE
        running[end] = subprocess.Popen(argv, cwd=root, stdout=pipe, stderr=pipe, env=dict(os.environ))
    outcomes = {}
    try:
        for end, process in running.items():
            said, errors = process.communicate()
            assert process.returncode == 0, errors.decode()[-6000:]
            found = json.loads(said)
            assert found["cases"] >= cases[end]
            assert found["grown_bytes"] < MEMORY_BYTES, end
            outcomes[end] = found["outcomes"]
    finally:
        for process in running.values():
            process.kill()
            process.communicate()
    return outcomes


def check_spread(outcomes: dict[str, dict[str, int]]) -> None:
    """The cases were worth their number: every kind of refusal was met, and so were good answers."""
    assert set(outcomes["agent"]) >= CODES - {"oversize"} | {"bad_request", "nonce", "no_trial", "hello", "verified"}
    assert set(outcomes["host"]) >= {"ProtocolError", "AgentError", "trial.result", "journal.batch", "facts", "hello"}
    refused = {
        "agent": sum(outcomes["agent"].get(code, 0) for code in CODES),
        "host": outcomes["host"]["ProtocolError"],
    }
    for end, found in outcomes.items():
        assert 0.3 < refused[end] / sum(found.values()) < 0.95, found


def test_ten_thousand_spoiled_frames_crash_neither_end(tmp_path) -> None:
    check_spread(fuzz(tmp_path, {"agent": 7000, "host": 3000}, seed=20))


@pytest.mark.slow
@pytest.mark.timeout(1800)  # 90 s on two quiet cores
def test_a_million_spoiled_frames_crash_neither_end(tmp_path) -> None:
    outcomes = fuzz(tmp_path, {"agent": 730_000, "host": 270_000}, seed=21)
    check_spread(outcomes)
    assert outcomes["agent"]["oversize"] > 0


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "unit", [b'\\"', b'"', b"[", b"[],", b"{},", b'"":', b"1,", b"1e9,", b"-", b"\\u0041", b"9", b"0."]
)
@pytest.mark.parametrize("start", [b"", b'"', b"[" * 34 + b'"', b"[", b'{"":'])
def test_no_line_takes_more_than_linear_time(start, unit) -> None:
    size = protocol.MAX_LINE_BYTES // 4  # for a pattern that looks back, still minutes
    line = (start + unit * size)[:size]
    for variant in (line, line[:-40] + b"[" * 40):
        assert code_of(variant) in CODES
