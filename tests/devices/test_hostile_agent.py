"""Every hostile answer, by the error that the host raises; the peer is a process that starts like an agent."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwloop.devices import AgentSession, LocalTransport
from hwloop.errors import AgentError, DeviceError, ProtocolError, TransportError
from hwloop.measurement import pool
from hwloop_agent import protocol

PEER = Path(__file__).with_name("hostile_peer.py")
LONG = protocol.MAX_LINE_BYTES
SHA = "a" * 64
SPEC: dict[str, Any] = {
    "artifact": None,
    "runtime": "null",
    "options": {},
    "inputs": [],
    "threads": 1,
    "timing": {"warmup_s": 0.0, "max_s": 1.0},
    "replicate": 0,
}
TRIAL_ID = protocol.trial_id(SPEC)
RECORD: dict[str, Any] = {
    "trial_id": TRIAL_ID,
    "spec": SPEC,
    "status": "ok",
    "reasons": [],
    "started_at": "2026-01-01T00:00:00Z",
    "boot_id": None,
    "runtime": {"name": "null", "version": "1"},
    "latency": {"median_ns": 2.0, "low_ns": 1.0, "high_ns": 3.0, "samples_ns": [1.0, 2.0, 3.0]},
    "memory": {"method": "VmHWM", "peak_bytes": 10, "model_bytes": 1},
    "conditions": {
        "pace_ns": 1.0,
        "canary_ratio": 1.0,
        "affinity": [1],
        "throttle": "unknown",
        "governor": None,
        "clock_mhz": None,
        "temperature_c": None,
    },
}

Answer = bytes
Ask = Callable[[AgentSession], object]


def run_trial(session: AgentSession) -> object:
    return session.run_trial(TRIAL_ID, SPEC)


def frame(type_: str, body: Any, **changes: Any) -> Answer:
    """One line; `@ID@` and `@SEQ@` are the peer's to fill in."""
    fields = {"v": 1, "id": "@ID@", "seq": "@SEQ@", "type": type_, "body": body, **changes}
    line = json.dumps({key: value for key, value in fields.items() if value != "absent"})
    return line.replace('"@ID@"', "@ID@").replace('"@SEQ@"', "@SEQ@").encode() + b"\n"


def result(**changes: Any) -> Answer:
    """The record of a trial with some fields replaced; "absent" removes one."""
    record = {key: value for key, value in {**RECORD, **changes}.items() if value != "absent"}
    return frame("trial.result", {"seq": 1, "record": record, "stored": False})


def part(name: str, /, **changes: Any) -> Answer:
    fields = {key: value for key, value in {**RECORD[name], **changes}.items() if value != "absent"}
    return result(**{name: fields})


def batch(records: Any, **more: Any) -> Answer:
    return frame("journal.batch", {"records": records, "last_seq": 1, "more": False, "cut_bytes": 0, **more})


def canary(**changes: Any) -> Answer:
    return frame("canary", {"median_ns": 1.0, "mad_ns": 0.0, "pace_ns": 1.0, "n": 9, **changes})


def facts(**changes: Any) -> Answer:
    return frame("facts", {"model": "a board", "runtimes": {"null": {"import": "ok"}}, **changes})


BROKE = r"broke the protocol \(%s\)"
FINISHED: Ask = lambda session: session.finished()  # noqa: E731
CANARY: Ask = lambda session: session.canary()  # noqa: E731
FACTS: Ask = lambda session: session.facts()  # noqa: E731
PUT: Ask = lambda session: session.put_artifact(b"", protocol.hex_digest(b""), ".onnx")  # noqa: E731

TABLE: dict[str, tuple[Answer, Ask, type[DeviceError], str]] = {
    # frames
    "bytes that are not UTF-8": (b"\xff\xfe\n", CANARY, ProtocolError, BROKE % "utf8"),
    "an empty line": (b"\n", CANARY, ProtocolError, BROKE % "json"),
    "a library's message": (b"WARNING: no CUDA\n", CANARY, ProtocolError, BROKE % "json"),
    "a frame cut short by a newline": (b'{"v":1,\n', CANARY, ProtocolError, BROKE % "json"),
    "half a string of half a million escapes": (
        b'"' + b'\\"' * 500_000 + b"[" * 40 + b"\n",
        CANARY,
        ProtocolError,
        BROKE % "json",
    ),
    "a line of 1 MiB and one byte": (b"x" * (LONG + 1) + b"\n", CANARY, ProtocolError, BROKE % "oversize"),
    "a line that never ends": (b"x" * (LONG + 1), CANARY, ProtocolError, BROKE % "oversize"),
    "NaN": (canary(median_ns=float("nan")), CANARY, ProtocolError, BROKE % "number"),
    "thirty digits": (canary(n=10**30), CANARY, ProtocolError, BROKE % "number"),
    "a key twice": (b'{"v":1,"v":1}\n', CANARY, ProtocolError, BROKE % "duplicate"),
    "33 brackets": (b"[" * 33 + b"]" * 33 + b"\n", CANARY, ProtocolError, BROKE % "depth"),
    "half a surrogate pair": (canary(x="\udc80"), CANARY, ProtocolError, BROKE % "text"),
    "a list": (b"[]\n", CANARY, ProtocolError, BROKE % "envelope"),
    "a seq that is skipped": (frame("canary", {}, seq=9), CANARY, ProtocolError, BROKE % "envelope"),
    "a seq that is true": (frame("canary", {}, seq=True), CANARY, ProtocolError, BROKE % "envelope"),
    "an id that is text": (frame("canary", {}, id="1"), CANARY, ProtocolError, BROKE % "envelope"),
    "a body that is a list": (frame("canary", []), CANARY, ProtocolError, BROKE % "envelope"),
    "a field too many": (frame("canary", {}, also=1), CANARY, ProtocolError, BROKE % "envelope"),
    "version 1.0": (frame("canary", {}, v=1.0), CANARY, ProtocolError, BROKE % "version"),
    "a type that only hosts send": (frame("trial.run", {}), CANARY, ProtocolError, BROKE % "type"),
    "a type that is an object": (frame("canary", {}, type={}), CANARY, ProtocolError, BROKE % "type"),
    "the end within a frame": (canary()[:-9], CANARY, TransportError, "it has ended"),
    "the answer to somebody else": (frame("canary", {}, id=77), CANARY, TransportError, "it has ended"),
    "the answer to another question": (facts(), CANARY, ProtocolError, "answered with facts"),
    "an error without a text": (frame("error", {}), CANARY, AgentError, r"None \(None\)"),
    "an error made of lists": (frame("error", {"code": [], "message": {}}), CANARY, AgentError, r"\{\} \(\[\]\)"),
    "an error with an escape": (frame("error", {"code": "busy", "message": "\x1b[2J"}), CANARY, AgentError, "�"),
    # records
    "no record": (frame("trial.result", {"seq": 1}), run_trial, ProtocolError, "another trial"),
    "a record that is a list": (
        frame("trial.result", {"seq": 1, "record": []}),
        run_trial,
        ProtocolError,
        "another trial",
    ),
    "the record of another trial": (result(trial_id=SHA + ":1"), run_trial, ProtocolError, "another trial"),
    "a record with another spec": (
        result(spec={**SPEC, "threads": 4}),
        run_trial,
        ProtocolError,
        "a spec that is not its trial's",
    ),
    "a record without a spec": (result(spec="absent"), run_trial, ProtocolError, "lacks spec"),
    "a spec that is text": (result(spec="{}"), run_trial, ProtocolError, "no usable spec"),
    "an unknown status": (result(status="splendid"), run_trial, ProtocolError, "the status splendid"),
    "a status that is a list": (result(status=["ok"]), run_trial, ProtocolError, "the status"),
    "reasons that are text": (result(reasons="hot"), run_trial, ProtocolError, "no usable reasons"),
    "reasons that are numbers": (result(reasons=[1]), run_trial, ProtocolError, "no usable reasons"),
    "a runtime that is text": (result(runtime="null"), run_trial, ProtocolError, "no usable runtime"),
    "a runtime without a name": (part("runtime", name=None), run_trial, ProtocolError, "runtime has no usable name"),
    "a number without a latency": (result(latency=None), run_trial, ProtocolError, "latency is not an object"),
    "a latency that is a number": (result(latency=3.0), run_trial, ProtocolError, "latency is not an object"),
    "a median that is text": (part("latency", median_ns="2"), run_trial, ProtocolError, "no usable median_ns: '2'"),
    "a median below zero": (part("latency", median_ns=-2.0), run_trial, ProtocolError, "no usable median_ns"),
    "a median of nothing": (part("latency", median_ns=0), run_trial, ProtocolError, "no usable median_ns"),
    "a median that is true": (part("latency", median_ns=True), run_trial, ProtocolError, "no usable median_ns"),
    "a median outside": (part("latency", median_ns=9.0), run_trial, ProtocolError, "outside its own interval"),
    "no interval": (part("latency", low_ns="absent"), run_trial, ProtocolError, "latency lacks low_ns"),
    "samples that are text": (part("latency", samples_ns=["1"]), run_trial, ProtocolError, "no usable samples_ns"),
    "memory that is a list": (result(memory=[]), run_trial, ProtocolError, "memory is not an object"),
    "joules that are an object": (
        result(energy={"joules_per_run": {}}),
        run_trial,
        ProtocolError,
        "no usable joules_per_run",
    ),
    "a peak with a fraction": (part("memory", peak_bytes=1.5), run_trial, ProtocolError, "no usable peak_bytes"),
    "a pace that is text": (part("conditions", pace_ns="1"), run_trial, ProtocolError, "no usable pace_ns"),
    "CPUs that are text": (part("conditions", affinity="01"), run_trial, ProtocolError, "no usable affinity"),
    "no conditions": (result(conditions="absent"), run_trial, ProtocolError, "conditions is not an object"),
    "a failure made of lists": (
        frame("trial.failed", {"reason": ["\x1b"]}),
        run_trial,
        AgentError,
        r"could not be run: \[",
    ),
    # journal, canary, facts, artifacts
    "a batch without records": (frame("journal.batch", {}), FINISHED, ProtocolError, "no records"),
    "a batch of numbers": (batch([7]), FINISHED, ProtocolError, "out of order"),
    "a batch that goes back": (batch([{"seq": 0, "rec": RECORD}]), FINISHED, ProtocolError, "out of order"),
    "a batch with a seq of text": (batch([{"seq": "1", "rec": RECORD}]), FINISHED, ProtocolError, "out of order"),
    "a batch without a record": (batch([{"seq": 1, "rec": None}]), FINISHED, ProtocolError, "without a record"),
    "a batch with half a record": (batch([{"seq": 1, "rec": {}}]), FINISHED, ProtocolError, "lacks trial_id"),
    "a record whose id climbs": (
        batch([{"seq": 1, "rec": {**RECORD, "trial_id": "../../x:1"}}]),
        FINISHED,
        ProtocolError,
        "no usable trial_id: '../../x:1'",
    ),
    "a canary that is text": (canary(median_ns="1"), CANARY, ProtocolError, "canary has no usable median_ns"),
    "a canary of no time": (canary(median_ns=0), CANARY, ProtocolError, "canary has no usable median_ns"),
    "a canary without a count": (frame("canary", {"median_ns": 1, "mad_ns": 0}), CANARY, ProtocolError, "lacks n"),
    "facts without runtimes": (frame("facts", {"model": None}), FACTS, ProtocolError, "lacks runtimes"),
    "facts with runtimes of text": (facts(runtimes={"tvm": "ok"}), FACTS, ProtocolError, "no usable runtimes"),
    "facts with power that is a number": (facts(power=5), FACTS, ProtocolError, "facts.power is not an object"),
    "facts with power that lacks its rails": (facts(power={}), FACTS, ProtocolError, "facts.power lacks rails"),
    "facts with a rail without a name": (
        facts(power={"rails": [{}], "total_of": [], "counters": [], "reason": None}),
        FACTS,
        ProtocolError,
        "no usable rails",
    ),
    "facts with a model of lists": (facts(model=[1]), FACTS, ProtocolError, "no usable model"),
    "a verdict that is text": (frame("verified", {"ok": "yes"}), PUT, ProtocolError, "no usable ok: 'yes'"),
    "no verdict": (frame("verified", {"reason": ""}), PUT, ProtocolError, "lacks ok"),
}

HELLOS: dict[str, tuple[dict[str, Any], str]] = {
    "artifacts in a system folder": ({"artifacts": "/etc"}, "wants artifacts in /etc, not in"),
    "artifacts that climb": ({"artifacts": "/ROOT/sessions/s/artifacts/../../.."}, "wants artifacts in"),
    "artifacts of a relative folder": ({"artifacts": "artifacts"}, "hello lacks"),
    "artifacts that are a list": ({"artifacts": ["/"]}, "hello lacks"),
    "no artifacts": ({"artifacts": "absent"}, "hello lacks"),
    "another agent's hash": ({"agent_sha256": SHA}, "not the one that was sent"),
    "a process that is text": ({"pid": "\x1b[2J"}, "hello lacks"),
    "CPUs that are null": ({"cpus": None}, "hello lacks"),
    "a journal that is a list": ({"journal": []}, "hello lacks"),
}


@pytest.fixture
def meet(tmp_path: Path) -> Callable[..., AgentSession]:
    """Opens a session with a peer that plays a part."""

    def open_(**played: Any) -> AgentSession:
        played["answers"] = [[line.hex() for line in lines] for lines in played.pop("answers", [])]
        script = tmp_path / "part.json"
        script.write_text(json.dumps(played))
        python = tmp_path / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} -I {PEER} {script} "$@"\n')
        python.chmod(0o700)
        return AgentSession.open(LocalTransport(str(python)), session_id="s", root=tmp_path / "root")

    return open_


@pytest.mark.parametrize("name", TABLE)
def test_every_hostile_answer_has_its_error(meet, name):
    answer, ask, error, text = TABLE[name]
    with meet(answers=[[answer]], then="exit") as session, pytest.raises(error, match=text) as caught:
        ask(session)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("name", HELLOS)
def test_every_hostile_hello_has_its_error(meet, name):
    hello, text = HELLOS[name]
    with pytest.raises(ProtocolError, match=text) as caught:
        meet(hello=hello)
    assert str(caught.value).isprintable()


def test_the_peer_of_these_tests_is_believed_where_it_is_honest(meet):
    answers = [
        [result()],
        [batch([{"seq": 1, "rec": RECORD}])],
        [canary()],
        [facts()],
        [frame("verified", {"ok": True})],
    ]
    with meet(answers=answers) as session:
        assert pool("x", [session.run_trial(TRIAL_ID, SPEC)]).latency_ms == 2e-6
        assert session.finished() == [RECORD]
        assert session.canary()["n"] == 9
        assert session.facts()["model"] == "a board"
        session.put_artifact(b"", protocol.hex_digest(b""), ".onnx")


def test_what_a_device_says_is_shown_without_terminal_escapes(meet):
    answers = [
        [facts(model="\x1b]0;owned\x07Pi", runtimes={"tvm\x1b": {"import": "\x9b2J"}})],
        [result(status="crashed", reasons=["died\x1b[31m"], boot_id="\x07")],
    ]
    with meet(answers=answers) as session:
        told = session.facts()
        record = session.run_trial(TRIAL_ID, SPEC)
    assert told == {"model": "\ufffd]0;owned\ufffdPi", "runtimes": {"tvm\ufffd": {"import": "\ufffd2J"}}}
    assert (record["reasons"], record["boot_id"]) == (["died\ufffd[31m"], "\ufffd")


@pytest.mark.parametrize("piece", [1, 7])
def test_noise_pieces_and_a_flood_of_stderr_change_nothing(meet, piece):
    banner = (b"Last login \x1b[32m\xff\xfe HWLOOP1 READY 0123\r\n" * 2000)[: protocol.MAX_BANNER_BYTES]
    flood = 4 << 20
    with meet(banner=banner.hex(), answers=[[canary()], [result()]], piece=piece, stderr_bytes=flood) as session:
        assert session.canary()["n"] == 9
        assert session.run_trial(TRIAL_ID, SPEC) == RECORD


def test_a_banner_that_is_too_long_is_shown_and_left(meet):
    with pytest.raises(TransportError, match="no READY in the first 64 KiB, which begin 'xxx"):
        meet(banner=(b"x" * 3 * protocol.MAX_BANNER_BYTES).hex())
