"""The copy of the agent's code that its interpreter loads: made once, used where it is whole, never needed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from hwloop.devices import AgentSession, LocalTransport
from hwloop_agent import protocol

COPY = MAGIC_NUMBER.hex() + ".zip"


@pytest.fixture
def agent_file(tmp_path) -> Path:
    """The agent's file after a first session."""
    root = tmp_path / "root"
    AgentSession.open(LocalTransport(), session_id="first", root=root).close()
    return next(root.glob("agents/*/agent.pyz"))


def loaded_from(agent_file: Path) -> str:
    """Where an agent that is started now has its code from."""
    code = (
        "import sys, runpy, atexit\n"
        f"sys.argv = [{str(agent_file)!r}, 'none']\n"
        "atexit.register(lambda: print(sys.modules['hwloop_agent'].__file__))\n"
        f"runpy.run_path({str(agent_file)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-I", "-B", "-c", code], capture_output=True, text=True, timeout=60)
    assert "usage: agent.pyz" in done.stderr
    return done.stdout.strip()


def test_the_second_session_loads_what_the_first_has_compiled(agent_file):
    copy = agent_file.with_name(COPY)
    assert sorted(path.name for path in agent_file.parent.iterdir()) == sorted(["agent.pyz", copy.name])
    assert loaded_from(agent_file).startswith(str(copy))
    moment = copy.stat().st_mtime_ns
    AgentSession.open(LocalTransport(), session_id="second", root=agent_file.parents[2]).close()
    assert copy.stat().st_mtime_ns == moment


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty"])
def test_a_copy_that_is_damaged_is_not_used_and_made_again(agent_file, damage):
    copy = agent_file.with_name(COPY)
    data = bytearray(copy.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    elif damage == "cut":
        del data[len(data) // 2 :]
    else:
        data.clear()
    copy.write_bytes(data)
    assert loaded_from(agent_file).startswith(str(agent_file))
    AgentSession.open(LocalTransport(), session_id="next", root=agent_file.parents[2]).close()
    assert loaded_from(agent_file).startswith(str(copy))


def test_a_copy_that_cannot_be_written_is_done_without(agent_file, null_spec):
    copy = agent_file.with_name(COPY)
    copy.unlink()
    copy.mkdir()
    with AgentSession.open(LocalTransport(), session_id="next", root=agent_file.parents[2]) as session:
        spec = null_spec()
        assert session.run_trial(protocol.trial_id(spec), spec)["status"] in ("ok", "degraded")
    assert {path.name for path in agent_file.parent.iterdir()} == {copy.name, agent_file.name}


def test_an_agent_that_is_run_by_hand_writes_nothing_beside_itself(archive, start_agent):
    before = sorted(archive.parent.iterdir())
    agent = start_agent()
    assert agent.hello()["type"] == "hello"
    assert agent.end() == 0
    assert sorted(archive.parent.iterdir()) == before
