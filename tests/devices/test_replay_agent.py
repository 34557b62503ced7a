"""The agent of a recording keeps to the protocol, whatever it is sent."""

from __future__ import annotations

from typing import Any

import pytest

from hwloop.devices import Deadline
from hwloop.devices.replay import Faults, ReplayAgent
from hwloop.devices.transports.replay import ReplayChannel
from hwloop.errors import TransportError
from hwloop_agent import protocol
from hwloop_agent.protocol import Message, decode, encode

ARGV = ("python3", "-I", "-B", "/replay/agents/abc/agent.pyz", "serve", "--root", "/replay", "--session", "s")
SPEC = {"runtime": "onnxruntime", "replicate": 0, "threads": 1}


class Recorded:
    """A recording whose answers have a reason of the wanted length."""

    name = "t.parquet"
    facts: dict[str, Any] = {"model": "Pi 4", "runtimes": {}}  # noqa: RUF012
    installed: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, length: int = 10) -> None:
        self.length = length

    def answer(self, trial_id: str, spec: dict[str, Any]) -> dict[str, Any]:
        return {"trial_id": trial_id, "spec": spec, "reasons": ["x" * self.length]}


def said(data: bytes) -> list[Message]:
    return [decode(line, protocol.AGENT_TYPES) for line in data.splitlines()]


def question(number: int, type_: str, **body: Any) -> bytes:
    return encode(Message(number, number, type_, body))


@pytest.fixture
def agent() -> ReplayAgent:
    return ReplayAgent(Recorded(), (*ARGV, "--nonce", "ab" * 16), Faults())


def test_it_answers_in_order_and_says_what_it_replays(agent: ReplayAgent) -> None:
    assert agent.greet() == b"HWLOOP1 READY " + b"ab" * 16 + b"\n"
    asked = question(1, "facts") + question(2, "trial.run", trial_id="t", spec=SPEC) + question(3, "ping")
    answers = said(agent.take(asked[:7]) + agent.take(asked[7:]))
    assert [(one.id, one.seq, one.type) for one in answers] == [
        (1, 1, "facts"),
        (2, 2, "trial.accepted"),
        (2, 3, "trial.result"),
    ]
    assert answers[0].body["replayed"] == "t.parquet"


def test_what_the_protocol_does_not_allow_is_an_error_and_the_session_goes_on(agent: ReplayAgent) -> None:
    (first, second, third) = said(
        agent.take(b"nonsense\n" + question(2, "trial.cancel", trial_id="t") + question(3, "canary"))
    )
    assert (first.type, first.body["code"]) == ("error", "json")
    assert (second.type, second.body["code"]) == ("error", "bad_request")
    assert (third.type, third.seq) == ("canary", 3)


def test_a_record_that_does_not_fit_is_an_error_without_a_gap() -> None:
    agent = ReplayAgent(Recorded(protocol.MAX_LINE_BYTES), (*ARGV, "--nonce", "ab" * 16), Faults())
    run = question(1, "trial.run", trial_id="t", spec=SPEC)
    first, second = said(agent.take(run + question(2, "canary")))
    assert (first.id, first.seq, first.type, first.body["code"]) == (1, 1, "error", "oversize")
    assert (second.seq, second.type) == (2, "canary")


def test_a_channel_gives_what_there_is_and_ends_where_it_breaks() -> None:
    faults = Faults(lose_at=frozenset({1}))
    channel = ReplayChannel(ReplayAgent(Recorded(), (*ARGV, "--nonce", "ab" * 16), faults))
    soon = Deadline(1)
    assert channel.read(6, soon) + channel.read(100, soon) == b"HWLOOP1 READY " + b"ab" * 16 + b"\n"
    with pytest.raises(TimeoutError):
        channel.read(100, soon)
    channel.write(question(1, "trial.run", trial_id="t", spec=SPEC), soon)
    assert [one.type for one in said(channel.read(10_000, soon))] == ["trial.accepted"]
    assert channel.read(100, soon) == b""
    with pytest.raises(TransportError, match="it has ended"):
        channel.write(question(2, "canary"), soon)
    assert channel.close(1, kill=True) == 0
