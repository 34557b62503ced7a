"""The host's end of a conversation, against a peer that says whatever a test makes it say."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.devices import Deadline
from hwloop.devices.hello import Hello
from hwloop.devices.link import Link
from hwloop.devices.session import AgentSession
from hwloop.errors import AgentError, DeviceBusyError, DeviceError, ProtocolError, TransportError
from hwloop_agent import protocol

NONCE = "ab" * 16
READY = b"HWLOOP1 READY " + NONCE.encode() + b"\n"


class Scripted:
    """A channel that delivers prepared bytes in pieces of one size, then ends or falls silent."""

    def __init__(self, data: bytes, piece: int = 65536, *, silent: bool = False) -> None:
        self.data, self.piece, self.silent = data, piece, silent
        self.written = b""
        self.closed = False

    def read(self, limit: int, deadline: Deadline) -> bytes:
        if not self.data and self.silent:
            raise TimeoutError
        size = min(self.piece, limit)
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def write(self, data: bytes, deadline: Deadline) -> None:
        self.written += data

    def stderr_tail(self) -> str:
        return "Killed \x1b[31mby\nthe kernel"

    def close(self, wait_s: float, *, kill: bool) -> int | None:
        self.closed = True
        return 0


def message(seq: int, type_: str, body: dict, id_: int = 1) -> bytes:
    return protocol.encode(protocol.Message(id_, seq, type_, body))


def ready_link(data: bytes, piece: int = 65536, *, silent: bool = False) -> Link:
    link = Link(Scripted(READY + data, piece, silent=silent), "board")
    link.await_ready(NONCE, Deadline(5))
    return link


def ask(link: Link, type_: str = "canary", expected: str = "canary") -> protocol.Message:
    return link.request(type_, {}, {expected}, Deadline(5))


class Slow:
    """A channel over which nothing comes until `answer_at` on its own clock, which runs while one waits for it."""

    def __init__(self, answer_at: float) -> None:
        self.now, self.answer_at = 0.0, answer_at
        self.said: list[tuple[float, str]] = []
        self.incoming = READY

    def clock(self) -> float:
        return self.now

    def read(self, limit: int, deadline: Deadline) -> bytes:
        if not self.incoming and self.now + deadline.remaining < self.answer_at:
            self.now += deadline.remaining
            raise TimeoutError
        if not self.incoming:
            self.now = self.answer_at
            self.incoming = message(1, "canary", {"n": 1})
        taken, self.incoming = self.incoming, b""
        return taken

    def write(self, data: bytes, deadline: Deadline) -> None:
        self.said.append((self.now, json.loads(data)["type"]))

    def stderr_tail(self) -> str:
        return ""

    def close(self, wait_s: float, *, kill: bool) -> int | None:
        return 0


def test_a_host_that_waits_says_so_every_ten_seconds():
    channel = Slow(answer_at=35.0)
    link = Link(channel, "board", channel.clock)
    link.await_ready(NONCE, Deadline(5, channel.clock))
    asked = link.send("canary", {}, Deadline(60, channel.clock))
    answer = link.answer(asked, {"canary"}, Deadline(60, channel.clock), silence_s=60)
    assert answer.body == {"n": 1}
    assert channel.said == [(0.0, "canary"), (10.0, "ping"), (20.0, "ping"), (30.0, "ping")]


def test_pings_do_not_lengthen_a_deadline_and_nobody_is_pinged_before_ready():
    channel = Slow(answer_at=1e9)
    link = Link(channel, "board", channel.clock)
    link.await_ready(NONCE, Deadline(5, channel.clock))
    asked = link.send("canary", {}, Deadline(60, channel.clock))
    with pytest.raises(TransportError, match="silent for 25 s"):
        link.answer(asked, {"canary"}, Deadline(60, channel.clock), silence_s=25)
    assert channel.now == 25
    silent = Slow(answer_at=1e9)
    silent.incoming = b""
    with pytest.raises(TransportError, match="silent for 20 s"):
        Link(silent, "board", silent.clock).await_ready(NONCE, Deadline(20, silent.clock))
    assert silent.said == []


@pytest.mark.parametrize("piece", [1, 2, 7, 4096])
def test_banners_are_discarded_whatever_the_pieces(piece):
    banner = b"Last login: today\r\n\x1b[32m$ HWLOOP1 READY no\n"
    link = Link(Scripted(banner + READY + message(1, "canary", {"n": 1}), piece), "board")
    link.await_ready(NONCE, Deadline(5))
    assert ask(link).body == {"n": 1}


def test_a_banner_of_64_kib_is_the_limit():
    link = Link(Scripted(b"x" * protocol.MAX_BANNER_BYTES + READY), "board")
    link.await_ready(NONCE, Deadline(5))
    with pytest.raises(TransportError, match="no READY in the first 64 KiB"):
        Link(Scripted(b"x" * (protocol.MAX_BANNER_BYTES + 70000) + READY), "board").await_ready(NONCE, Deadline(5))


def test_another_sessions_ready_is_not_ours():
    with pytest.raises(TransportError, match=r"has ended.*Killed .*by the kernel"):
        Link(Scripted(b"HWLOOP1 READY " + b"0" * 32 + b"\n"), "board").await_ready(NONCE, Deadline(5))


def test_heartbeats_logs_and_answers_to_others_are_passed_over():
    data = message(1, "heartbeat", {"phase": "idle", "rss_kb": 1}, 0)
    data += message(2, "log", {"level": "error", "message": "disk\x1b[2J"}, 0)
    data += message(3, "canary", {"n": 9}, 77) + message(4, "canary", {"n": 1})
    link = ready_link(data)
    assert ask(link).body == {"n": 1}
    assert list(link.logs) == ["disk\ufffd[2J"]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"\xff\n", "utf8"),
        (b"{\n", "json"),
        (b'{"v":NaN}\n', "number"),
        (b'{"v":1,"v":1}\n', "duplicate"),
        (b"x" * (protocol.MAX_LINE_BYTES + 5) + b"\n", "oversize"),
        (message(2, "canary", {}), "envelope"),
        (b'{"v":1,"id":1,"seq":1,"type":"exec","body":{}}\n', "type"),
        (b'{"v":2,"id":1,"seq":1,"type":"canary","body":{}}\n', "version"),
    ],
)
def test_a_broken_answer_is_a_protocol_error_that_names_the_fault(line, code):
    link = ready_link(line)
    with pytest.raises(ProtocolError, match=rf"broke the protocol \({code}\)"):
        ask(link)
    with pytest.raises(TransportError, match="over"):
        ask(link)


def test_an_answer_cut_short_is_a_lost_agent():
    with pytest.raises(TransportError, match="it has ended; it said: Killed"):
        ask(ready_link(message(1, "canary", {})[:-3]))


def test_silence_is_a_lost_agent():
    with pytest.raises(TransportError, match="silent"):
        ask(ready_link(b"", silent=True))


def test_heartbeats_alone_do_not_hold_a_request_open_for_ever():
    class Beating(Scripted):
        seq = 0

        def read(self, limit, deadline):
            if self.data:
                return super().read(limit, deadline)
            self.seq += 1
            return message(self.seq, "heartbeat", {}, 0)

    link = Link(Beating(READY), "board")
    link.await_ready(NONCE, Deadline(5))
    with pytest.raises(TransportError, match="no answer within"):
        link.request("canary", {}, {"canary"}, Deadline(0.2))


def test_refusals_have_their_own_errors_and_leave_the_link_open():
    link = ready_link(
        message(1, "error", {"code": "lease", "message": "in use by ann"})
        + message(2, "error", {"code": "busy", "message": "later\x07"}, 2)
        + message(3, "canary", {}, 3)
    )
    with pytest.raises(DeviceBusyError, match="in use by ann"):
        ask(link)
    with pytest.raises(AgentError, match="later\ufffd"):
        ask(link)
    assert ask(link).type == "canary"


def test_an_answer_of_another_type_or_to_another_trial_is_refused():
    with pytest.raises(ProtocolError, match="answered with facts"):
        ask(ready_link(message(1, "facts", {})))
    session = AgentSession(None, ready_link(message(1, "trial.result", {"seq": 1, "record": {"trial_id": "x"}})), HELLO)
    with pytest.raises(ProtocolError, match="another trial"):
        session.run_trial("y", SPEC)
    record = {"trial_id": "y", "status": "splendid"}
    session = AgentSession(None, ready_link(message(1, "trial.result", {"seq": 1, "record": record})), HELLO)
    with pytest.raises(ProtocolError, match="status splendid"):
        session.run_trial("y", SPEC)


def test_a_journal_that_goes_backwards_is_refused():
    entries = [{"seq": 2, "rec": {}}, {"seq": 1, "rec": {}}]
    session = AgentSession(None, ready_link(message(1, "journal.batch", {"records": entries})), HELLO)
    with pytest.raises(ProtocolError, match="out of order"):
        session.finished()


def test_a_message_too_large_is_refused_before_it_is_sent():
    link = ready_link(b"")
    with pytest.raises(ProtocolError, match="cannot be sent"):
        link.request("verify", {"x": "y" * protocol.MAX_LINE_BYTES}, {"verified"}, Deadline(5))


def test_a_hello_with_holes_is_refused():
    for hole in ("agent_sha256", "artifacts", "cpus", "journal"):
        body = {**HELLO_BODY}
        del body[hole]
        with pytest.raises(ProtocolError, match="hello lacks"):
            Hello.from_json(body)
    with pytest.raises(ProtocolError):
        Hello.from_json({**HELLO_BODY, "artifacts": "relative/path"})


HELLO_BODY = {
    "agent_sha256": "0" * 64,
    "version": "0",
    "python": "3.8.0",
    "worker_python": "/p",
    "pid": 1,
    "boot_id": None,
    "mono_ns": 1,
    "artifacts": "/r/sessions/s/artifacts",
    "cpus": [0],
    "journal": {"last_seq": 0, "cut_bytes": 0},
}
HELLO = Hello.from_json(HELLO_BODY)
SPEC = {"timing": {"warmup_s": 0, "max_s": 1}}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ENVELOPE = st.fixed_dictionaries(
    {
        "v": st.just(1) | JSON,
        "id": st.just(1) | JSON,
        "seq": st.just(1) | JSON,
        "type": st.sampled_from(sorted(protocol.AGENT_TYPES)) | JSON,
        "body": JSON,
    }
)
LINE = (
    st.binary(max_size=200)
    | ENVELOPE.map(lambda value: json.dumps(value).encode())
    | JSON.map(json.dumps).map(str.encode)
)


@settings(max_examples=400, deadline=None)
@given(lines=st.lists(LINE, max_size=4), piece=st.sampled_from([1, 3, 65536]))
def test_whatever_an_agent_says_the_host_answers_with_its_own_errors(lines, piece):
    session = AgentSession(None, ready_link(b"\n".join(lines) + b"\n", piece), HELLO)
    said = ""
    try:
        session.run_trial("0" * 64 + ":1", SPEC)
    except DeviceError as error:
        said = str(error)
    assert said.isprintable()
