"""Every hostile request, by the name of the error that answers it; the agent is a real process and goes on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hwloop_agent import protocol
from hwloop_agent.trialrecord import Start, build_record
from tests.timing import QUICK

NONCE = "0123456789abcdef"
LONG = protocol.MAX_LINE_BYTES
SHA = "a" * 64
Line = Callable[[int], bytes]


def raw(line: bytes) -> Line:
    return lambda seq: line


def envelope(**changes: Any) -> Line:
    """A valid `journal.read` with some fields of its envelope replaced; None removes one."""

    def make(seq: int) -> bytes:
        body = {"after_seq": 0, "limit": 1}
        message = {"v": 1, "id": 7, "seq": seq, "type": "journal.read", "body": body, **changes}
        return json.dumps({key: value for key, value in message.items() if value is not None}).encode()

    return make


def request(type_: str, **body: Any) -> Line:
    return lambda seq: json.dumps({"v": 1, "id": 7, "seq": seq, "type": type_, "body": body}).encode()


def trial(*, deadline_s: Any = 5, honest: bool = True, **changes: Any) -> Line:
    """A `trial.run` of the null runtime with some keys of its spec replaced; None removes one."""
    plain = {"artifact": None, "runtime": "null", "options": {}, "inputs": [], "threads": 1, "replicate": 0}
    spec = {key: value for key, value in {**plain, "timing": QUICK, **changes}.items() if value != "absent"}
    trial_id = protocol.trial_id(spec) if honest else SHA + ":1"
    return request("trial.run", trial_id=trial_id, spec=spec, deadline_s=deadline_s)


def artifact(**changes: Any) -> Line:
    return trial(runtime="onnxruntime", artifact={"sha256": SHA, "suffix": ".onnx", "size": 3, **changes})


TABLE: dict[str, tuple[Line, str]] = {
    # bytes
    "bytes that are not UTF-8": (raw(b"\xff\xfe\x00"), "utf8"),
    "UTF-8 of a surrogate": (raw(b'{"v":"\xed\xa0\x80"}'), "utf8"),
    "an overlong slash": (raw(b'"..\xc0\xaf"'), "utf8"),
    "nothing": (raw(b""), "json"),
    "a carriage return": (raw(b"\r"), "json"),
    "a null byte": (raw(b"\x00"), "json"),
    "a shell's prompt": (raw(b"$ "), "json"),
    "a frame cut short": (lambda seq: envelope()(seq)[:-9], "json"),
    "two frames on one line": (lambda seq: envelope()(seq) * 2, "json"),
    "a line of 1 MiB and one byte": (raw(b"x" * (LONG + 1)), "oversize"),
    "a line of eight MiB": (raw(b"x" * (LONG * 8)), "oversize"),
    "half a string of half a million escapes": (raw(b'"' + b'\\"' * 500_000 + b"[" * 40), "json"),
    # values
    "NaN": (envelope(body={"x": float("nan")}), "number"),
    "minus infinity": (envelope(body={"x": float("-inf")}), "number"),
    "a number beyond a double": (raw(b'{"v":1e999}'), "number"),
    "a number of a megabyte": (raw(b"9" * (LONG - 1)), "number"),
    "a key twice": (raw(b'{"v":1,"v":1}'), "duplicate"),
    "a key twice, spelt differently": (raw(b'{"v":1,"\\u0076":1}'), "duplicate"),
    "a key twice, deep inside": (raw(b'{"v":1,"body":{"a":[{"b":1,"b":2}]}}'), "duplicate"),
    "33 brackets": (raw(b"[" * 33 + b"]" * 33), "depth"),
    "a million brackets": (raw(b"[" * 1_000_000), "depth"),
    "half a surrogate pair": (envelope(body={"x": "\ud800"}), "text"),
    "half a surrogate pair as a key": (envelope(body={"\udc00": 1}), "text"),
    # the envelope
    "a list": (raw(b"[1]"), "envelope"),
    "a number": (raw(b"7"), "envelope"),
    "no id": (envelope(id=None), "envelope"),
    "an id of 33 bits": (envelope(id=1 << 32), "envelope"),
    "an id below zero": (envelope(id=-1), "envelope"),
    "an id that is true": (envelope(id=True), "envelope"),
    "an id that is text": (envelope(id="7"), "envelope"),
    "an id with a fraction": (envelope(id=7.0), "envelope"),
    "a seq that was there before": (envelope(seq=1), "envelope"),
    "a seq of 65 bits": (envelope(seq=1 << 64), "envelope"),
    "a seq that is a list": (envelope(seq=[]), "envelope"),
    "a body that is a list": (envelope(body=[]), "envelope"),
    "a body that is text": (envelope(body="{}"), "envelope"),
    "no body": (envelope(body=None), "envelope"),
    "one field too many": (envelope(extra=1), "envelope"),
    "version 2": (envelope(v=2), "version"),
    "version true": (envelope(v=True), "version"),
    "version 1.0": (envelope(v=1.0), "version"),
    "version text": (envelope(v="1"), "version"),
    "an unknown type": (envelope(type="exec"), "type"),
    "a type that only agents send": (envelope(type="trial.result"), "type"),
    "a type that is a list": (envelope(type=["hello"]), "type"),
    "a type that is an object": (envelope(type={"hello": 1}), "type"),
    # bodies
    "a nonce that is not ours": (request("hello", proto=[1], nonce="f" * 16), "nonce"),
    "a nonce that is a list": (request("hello", proto=[1], nonce=[NONCE]), "nonce"),
    "a protocol of tomorrow": (request("hello", proto=[2], nonce=NONCE), "proto"),
    "protocols that are text": (request("hello", proto="1", nonce=NONCE), "proto"),
    "a limit below zero": (request("journal.read", after_seq=0, limit=-1), "bad_request"),
    "a limit that is true": (request("journal.read", after_seq=0, limit=True), "bad_request"),
    "a limit with a fraction": (request("journal.read", after_seq=0, limit=1.5), "bad_request"),
    "no limit": (request("journal.read", after_seq=0), "bad_request"),
    "the receipt of what was never sent": (request("journal.ack", seq=10**9), "bad_request"),
    "a trial id that climbs": (request("trial.cancel", trial_id="../" * 21 + "x:1"), "bad_request"),
    "a trial id with a newline": (request("trial.cancel", trial_id=SHA + ":1\n"), "bad_request"),
    "a trial that does not run": (request("trial.cancel", trial_id=SHA + ":1"), "no_trial"),
    "a hash that climbs": (request("verify", sha256="../../../../etc/passwd", suffix=".onnx"), "bad_request"),
    "a hash that is a list": (request("verify", sha256=[SHA], suffix=".onnx"), "bad_request"),
    "a hash with a newline": (request("verify", sha256=SHA + "\n", suffix=".onnx"), "bad_request"),
    "a suffix that climbs": (request("verify", sha256=SHA, suffix="/../../journal.ndjson"), "bad_request"),
    "a suffix with a null byte": (request("verify", sha256=SHA, suffix=".onnx\x00"), "bad_request"),
    "a trial without a spec": (request("trial.run", trial_id=SHA + ":1", deadline_s=5), "bad_request"),
    "a spec that is a list": (request("trial.run", trial_id=SHA + ":1", spec=[], deadline_s=5), "bad_request"),
    "a spec of another hash": (trial(honest=False), "bad_request"),
    "a spec of 50 KB": (trial(options={"x": "y" * 50_000}), "bad_request"),
    "a deadline that is true": (trial(deadline_s=True), "bad_request"),
    "a deadline that is text": (trial(deadline_s="5"), "bad_request"),
    "a deadline of a day": (trial(deadline_s=86_400), "bad_request"),
    "a spec with a key too many": (trial(command="reboot"), "bad_request"),
    "a spec with a key too few": (trial(threads="absent"), "bad_request"),
    "threads that are true": (trial(threads=True), "bad_request"),
    "a million threads": (trial(threads=10**6), "bad_request"),
    "timing that is a list": (trial(timing=[]), "bad_request"),
    "options that are a list": (trial(options=[]), "bad_request"),
    "options within options": (trial(options={"x": {"y": 1}}), "bad_request"),
    "a runtime that climbs": (trial(runtime="../null"), "bad_request"),
    "a runtime that is an object": (trial(runtime={}), "bad_request"),
    "an artifact that climbs": (artifact(sha256="../../etc/passwd"), "bad_request"),
    "an artifact that is elsewhere": (artifact(sha256="/etc/passwd"), "bad_request"),
    "an artifact that is a program": (artifact(suffix=".sh"), "bad_request"),
    "an artifact whose suffix is a list": (artifact(suffix=[".onnx"]), "bad_request"),
    "an artifact of text bytes": (artifact(size="3"), "bad_request"),
    "an artifact that is not there": (artifact(), "no_artifact"),
    "inputs that are no list": (trial(inputs={}), "bad_request"),
    "an input that is no object": (trial(inputs=[1]), "bad_request"),
    "an input of a terabyte": (
        trial(inputs=[{"name": "x", "shape": [1 << 20] * 8, "dtype": "bool", "distribution": "normal", "seed": 0}]),
        "bad_request",
    ),
    "an input with a list as its type": (
        trial(inputs=[{"name": "x", "shape": [1], "dtype": [], "distribution": "normal", "seed": 0}]),
        "bad_request",
    ),
}


def test_every_hostile_request_has_its_error_and_the_session_goes_on(start_agent, tmp_path):
    agents = 0
    agent = None
    for place, (name, (line, code)) in enumerate(TABLE.items()):
        if place % 40 == 0:  # an agent leaves a peer after 64 lines that are not frames
            if agent is not None:
                assert agent.end() == 0
                agents += 1
            agent = start_agent(f"s{agents}")
            assert agent.hello()["type"] == "hello"
        agent.seq += 1
        agent.write(line(agent.seq) + b"\n")
        answer = agent.receive()
        assert (answer["type"], answer["body"].get("code")) == ("error", code), name
        assert len(answer["body"]["message"]) <= 2000, name
    assert agent.ask("journal.read", {"after_seq": 0, "limit": 10})["type"] == "journal.batch"
    assert agent.end() == 0
    assert "Traceback" not in agent.stderr()
    # Nothing that was named in a message has become a file.
    written = {path.name for path in (tmp_path / "root/sessions/s0").rglob("*") if path.is_file()}
    assert written == {"journal.ndjson"}


@pytest.mark.parametrize(
    "session",
    ["../x", "/x", "a/b", ".", "..", "", "x" * 65, "a\nb", "a b", "\u00e9"],
    ids=lambda name: repr(name)[:9],
)
def test_a_session_id_that_is_no_plain_name_never_starts(archive, tmp_path, session):
    argv = [sys.executable, "-I", "-B", str(archive), "serve", "--root", str(tmp_path / "root"), "--nonce", NONCE]
    done = subprocess.run([*argv, "--session", session], input=b"", capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--session is up to 64 of" in done.stderr
    assert not Path(tmp_path / "root").exists()


def test_an_artifact_that_is_a_link_or_a_folder_is_not_opened(agent, tmp_path):
    folder = tmp_path / "root/sessions/s1/artifacts"
    outside = tmp_path / "outside"
    outside.write_bytes(b"secret")
    (folder / f"{SHA}.onnx").symlink_to(outside)
    (folder / f"{SHA}.ort").mkdir()
    for suffix in (".onnx", ".ort"):
        body = agent.ask("verify", {"sha256": SHA, "suffix": suffix})["body"]
        assert (body["ok"], body["size"]) == (False, None)
        assert body["reason"]


def test_a_worker_that_writes_into_its_report_cannot_harm_the_supervisor(archive, tmp_path):
    """A runtime shares its process with the report pipe; here one is that writes into it, and a supervisor reads."""
    script = tmp_path / "scribble.py"
    nested = "[" * 20 + "]" * 20
    lines = [
        "\xff",
        "[]",
        "7",
        "{}",
        '{"event":[]}',
        '{"event":"part","part":"ab"}',
        '{"event":"part","part":{"conditions":[1],"latency":7,"outputs":' + nested + "}}",
        '{"event":"phase"}',
        '{"event":"phase","phase":{}}',
        '{"event":"done","result":"abc"}',
        '{"event":"done","result":{"status":[],"reasons":7}}',
        "x" * 2_000_000,
    ]
    report = tmp_path / "report"
    report.write_bytes("\n".join([*lines, ""]).encode("latin-1") * 20)
    script.write_text(
        "import os, sys\n"
        f"data = open({str(report)!r}, 'rb').read()\n"
        "while data:\n"
        "    data = data[os.write(int(sys.argv[-1]), data):]\n"
    )
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nfor last; do :; done\nexec {sys.executable} {script} "$last"\n')
    python.chmod(0o700)
    argv = [sys.executable, "-I", "-B", str(archive), "serve", "--root", str(tmp_path / "root"), "--nonce", NONCE]
    hello = protocol.encode(protocol.Message(1, 1, "hello", {"proto": [1], "nonce": NONCE}))
    done = subprocess.run(
        [*argv, "--session", "s", "--worker-python", str(python)],
        input=hello + trial()(2) + b"\n",
        capture_output=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    answers = [protocol.decode(line, protocol.AGENT_TYPES) for line in done.stdout.splitlines()[1:]]
    record = answers[-1].body["record"]
    assert answers[-1].type == "trial.result"
    assert record["status"] in ("crashed", "invalid")
    assert record["reasons"]


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ([{"name": "x" * 300, "shape": [1], "finite": True, "max_abs": 1.0}] * 4000, r"takes \d+ bytes \(limit \d+\)"),
        (json.loads("[" * 29 + "]" * 29), "nested deeper than 32"),
    ],
    ids=["too long", "too deep"],
)
def test_a_record_that_fits_no_line_says_so_in_one_that_does(outputs, words):
    start = Start(SHA + ":1", {"runtime": "onnxruntime"}, "", None)
    outcome = {"status": "ok", "reasons": []}
    record = build_record(start, {"outputs": outputs, "latency": {"median_ns": 1.0}}, outcome, None)
    assert (record["status"], record["outputs"], record["latency"]) == ("invalid", None, None)
    assert re.search(words, record["reasons"][0])
    assert protocol.encode(protocol.Message(1, 1, "trial.result", {"record": record}))
    small = build_record(start, {"outputs": outputs[:1] if "bytes" in words else []}, outcome, None)
    assert small["status"] == "ok"
