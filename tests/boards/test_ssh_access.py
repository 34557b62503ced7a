"""Who may talk to whom: host keys, user keys, jump hosts, the SSH configuration."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import threading
from pathlib import Path

import paramiko
import pytest

import hwloop
from hwloop.devices import Deadline
from hwloop.devices.ssh.hostkey import HostKey, Pins, UnknownHostKeyError
from hwloop.devices.ssh.login import Secrets
from hwloop.devices.ssh.route import Address, find_route
from hwloop.devices.transports.ssh import SshTransport
from hwloop.errors import AccessError, TransportError, UserError
from tests.boards.x86 import make_key, wait_until

pytestmark = pytest.mark.board
FINGERPRINT = r"SHA256:[A-Za-z0-9+/]{43}"


def enter(transport) -> None:
    try:
        transport.connect()
    finally:
        transport.close()


def offers(board) -> list[str]:
    """What clients have offered or done at the board since it started, from its log."""
    return re.findall(r"(?:Accepted|Failed|Invalid).*", board.log)


def test_the_fingerprint_is_the_one_that_ssh_keygen_prints(board):
    said = subprocess.run(
        ["ssh-keygen", "-lf", board.folder / "host_key.pub"], capture_output=True, text=True, check=True
    )
    assert said.stdout.split()[1] == board.host_key.fingerprint


def test_an_unknown_host_key_is_refused_before_anything_is_said(board):
    with pytest.raises(UnknownHostKeyError, match="no host key is pinned") as caught:
        enter(board.transport(pins=Pins()))
    assert board.host_key.fingerprint in str(caught.value)
    assert "hwloop device add board" in str(caught.value)
    assert caught.value.key == board.host_key
    assert not offers(board)


def test_a_changed_host_key_is_refused_with_both_fingerprints(board):
    old = board.pins()
    board.stop()
    board.new_host_key()
    board.start()
    with pytest.raises(AccessError, match="THE HOST KEY HAS CHANGED") as caught:
        enter(board.transport(pins=old))
    assert re.findall(FINGERPRINT, str(caught.value)) == [old.device.fingerprint, board.host_key.fingerprint]
    assert "hwloop device remove board" in str(caught.value)
    assert not offers(board)


def test_a_key_of_another_kind_than_the_pinned_one_is_a_changed_key(board, tmp_path):
    make_key(tmp_path / "rsa", "rsa")
    other = HostKey.parse(" ".join((tmp_path / "rsa.pub").read_text().split()[:2]))
    with pytest.raises(AccessError, match="HAS CHANGED"):
        enter(board.transport(pins=Pins(other)))


@pytest.mark.parametrize("kind", ["rsa", "ecdsa"])
def test_the_pinned_kind_of_host_key_is_asked_for(board, kind):
    board.stop()
    key = make_key(board.folder / kind, kind)
    board.extra_config = [f"HostKey {key}"]
    board.start()
    pinned = HostKey.parse(" ".join(key.with_name(f"{kind}.pub").read_text().split()[:2]))
    enter(board.transport(pins=Pins(pinned)))
    enter(board.transport())


def test_a_wrong_user_key_is_an_error_that_says_what_was_tried(board, tmp_path):
    stranger = make_key(tmp_path / "stranger")
    with pytest.raises(AccessError, match=f"lets us in with none of our keys; tried {stranger}") as caught:
        enter(board.transport(identity=str(stranger)))
    assert "authorized_keys" in str(caught.value)
    with pytest.raises(AccessError, match="there is no key file"):
        enter(board.transport(identity=str(tmp_path / "missing")))
    (tmp_path / "junk").write_text("not a key\n")
    with pytest.raises(AccessError, match=r"junk .cannot be read"):
        enter(board.transport(identity=str(tmp_path / "junk")))


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
def test_a_key_with_a_passphrase_is_asked_for_and_once_only(board, tmp_path, kind):
    locked = make_key(tmp_path / "locked", kind, "open sesame")
    board.authorize(locked)
    answers = ["wrong", "open sesame"]
    asked = []

    def ask(question):
        asked.append(question)
        return answers.pop(0)

    transport = board.transport(identity=str(locked), secrets=Secrets(ask))
    enter(transport)
    for _ in range(3):
        enter(transport)  # a lost connection is opened again without the person
    assert asked == [f"passphrase of {locked}: "] * 2
    with pytest.raises(AccessError, match=r"it has a passphrase: load it into ssh-agent"):
        enter(board.transport(identity=str(locked)))


def test_a_key_in_the_agent_lets_us_in(board, tmp_path, monkeypatch):
    locked = make_key(tmp_path / "locked", passphrase="open sesame")
    board.authorize(locked)
    path = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL)
    try:
        wait_until(path.exists, "the ssh-agent")
        helper = tmp_path / "askpass"
        helper.write_text("#!/bin/sh\necho open sesame\n")
        helper.chmod(0o700)
        environment = {
            **os.environ,
            "SSH_AUTH_SOCK": str(path),
            "SSH_ASKPASS": str(helper),
            "SSH_ASKPASS_REQUIRE": "force",
        }
        subprocess.run(["ssh-add", "-q", str(locked)], env=environment, check=True, stdin=subprocess.DEVNULL)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        enter(board.transport(identity=None))
        enter(board.transport(identity=str(locked)))  # its file is not needed: nobody is asked for the passphrase
        stranger = make_key(tmp_path / "stranger")
        only = board.ssh_config(f"Host *\n  IdentitiesOnly yes\n  IdentityFile {stranger}\n")
        with pytest.raises(AccessError, match="stranger"):
            enter(board.transport(identity=None, config=only))
    finally:
        agent.terminate()
        agent.wait()


def test_an_alias_of_the_ssh_configuration_is_honoured(board, tmp_path):
    included = board.folder / "extra"
    included.write_text(f"Host pi4\n  IdentityFile {board.user_key}\n")
    config = board.ssh_config(
        f"Include {included.name}\nHost pi4\n  HostName 127.0.0.1\n  Port {board.port}\n  User {board.user}\n"
        "  ConnectTimeout 7\n  IdentitiesOnly yes\n"
    )
    enter(board.transport(address=Address("pi4"), identity=None, config=config))
    (place,) = find_route(Address("pi4"), config=config)
    assert (place.host, place.port, place.connect_s, place.only) == ("127.0.0.1", board.port, 7, True)
    assert place.identities == (board.user_key,)
    (named,) = find_route(Address("pi4", 99, "me"), identity="/k", config=config)
    assert (named.port, named.user, named.identities[0]) == (99, "me", Path("/k"))


def test_the_device_is_reached_through_a_jump_host(make_board):
    bastion, board = make_board("bastion"), make_board("inner")
    hop = f"127.0.0.1:{bastion.port}"
    key = f"  IdentityFile {bastion.user_key}\n"
    config = board.ssh_config(
        f"Host gate\n  HostName 127.0.0.1\n  Port {bastion.port}\n{key}Host *\n  User {board.user}\n"
    )
    pins = Pins(board.host_key, {hop: bastion.host_key})
    transport = board.transport(pins=pins, jump="gate", config=config)
    channel = transport.start(["sh", "-c", "echo $SSH_CONNECTION"])
    transport.put(b"through", f"{transport.default_root()}/file")
    assert (board.root / "file").read_bytes() == b"through"
    assert len(bastion.connections()) == len(board.connections()) == 1
    channel.close(5, kill=True)
    transport.close()
    by_config = board.ssh_config(
        f"Host gate\n  HostName 127.0.0.1\n  Port {bastion.port}\n{key}"
        f"Host inner\n  HostName 127.0.0.1\n  Port {board.port}\n  ProxyJump gate\n"
    )
    enter(board.transport(address=Address("inner", user=board.user), pins=pins, config=by_config))
    with pytest.raises(UnknownHostKeyError, match=f"jump host {hop} of device board: no host key") as caught:
        enter(board.transport(pins=board.pins(), jump="gate", config=config))
    assert (caught.value.address, caught.value.is_hop) == (hop, True)
    with pytest.raises(AccessError, match=f"jump host {hop} of device board: THE HOST KEY HAS CHANGED"):
        enter(board.transport(pins=Pins(board.host_key, {hop: board.host_key}), jump="gate", config=config))
    board.stop()
    with pytest.raises(TransportError, match=f"reaching 127.0.0.1:{board.port} through the jump host"):
        enter(board.transport(pins=pins, jump="gate", config=config))


def test_a_jump_host_that_dies_ends_the_session_with_an_error(make_board):
    bastion, board = make_board("bastion"), make_board("inner")
    config = board.ssh_config(f"Host 127.0.0.1\n  IdentityFile {bastion.user_key}\n")
    pins = Pins(board.host_key, {f"127.0.0.1:{bastion.port}": bastion.host_key})
    transport = board.transport(pins=pins, jump=f"{bastion.user}@127.0.0.1:{bastion.port}", config=config)
    channel = transport.start(["sleep", "60"])
    bastion.cut()
    with pytest.raises(TransportError, match=r"closed|EOF|reset|ended"):
        channel.read(1, Deadline(20))
    channel.close(0, kill=True)
    transport.close()


class PasswordServer(paramiko.ServerInterface):
    """Takes one password and no key."""

    def get_allowed_auths(self, username):
        return "password"

    def check_auth_password(self, username, password):
        return paramiko.AUTH_SUCCESSFUL if password == "right" else paramiko.AUTH_FAILED


def test_a_password_is_asked_for_and_never_otherwise_known(no_leaks, tmp_path):
    host_key = paramiko.Ed25519Key.from_private_key_file(str(make_key(tmp_path / "host_key")))
    pins = Pins(HostKey(host_key.get_name(), host_key.get_base64()))
    config = tmp_path / "config"
    config.write_text("")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        served: list[paramiko.Transport] = []

        def serve() -> None:
            server = paramiko.Transport(listener.accept()[0])
            served.append(server)
            server.add_server_key(host_key)
            server.start_server(server=PasswordServer())

        def enter_with(ask) -> None:
            thread = threading.Thread(target=serve)
            thread.start()
            address = Address("127.0.0.1", listener.getsockname()[1], "pi")
            try:
                enter(SshTransport("board", address, pins, config=config, secrets=Secrets(ask)))
            finally:
                thread.join()
                server = served.pop()
                server.close()
                server.join()
                server.sock.close()

        answers = ["wrong", "right"]
        enter_with(lambda question: answers.pop(0))
        assert not answers
        with pytest.raises(AccessError, match=r"accepts no keys|none of our keys"):
            enter_with(lambda question: None)
        with pytest.raises(AccessError, match="tried a password"):
            enter_with(lambda question: "wrong")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Host pi\n  Port many\n", "port 'many' of pi"),
        ("Host pi\n  ProxyCommand nc %h %p\n", "ProxyCommand"),
        ("Host pi\n  ProxyJump a\nHost a\n  ProxyJump pi\n", "circle"),
        ("Include config\n", "Include is nested"),
        ("Host pi\n  Match\n", "cannot be used"),
        ("Host pi\n  ProxyJump ht!tp\n", "no SSH address"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_named(tmp_path, text, words):
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        find_route(Address("pi"), config=path)


@pytest.mark.parametrize(
    ("text", "host", "port", "user"),
    [
        ("ssh://pi@board.local:2222", "board.local", 2222, "pi"),
        ("ssh://Alias", "Alias", None, None),
        ("pi@10.0.0.7", "10.0.0.7", None, "pi"),
        ("ssh://root@[::1]:22", "::1", 22, "root"),
        ("ssh://a%40b@host/", "host", None, "a@b"),
    ],
)
def test_addresses_are_read(text, host, port, user):
    assert Address.parse(text) == Address(host, port, user)


@pytest.mark.parametrize(
    "text",
    ["http://host", "ssh://", "ssh://u:secret@host", "ssh://host:many", "ssh://host/path", "ssh://-oX", "a b", "h:0"],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(UserError, match="write ssh://user@host"):
        Address.parse(text)


def test_only_one_module_makes_ssh_connections_and_none_relaxes_host_keys():
    package = Path(hwloop.__file__).parent
    makers = []
    for path in package.rglob("*.py"):
        text = path.read_text("utf-8")
        for name in ("set_missing_host_key_policy", "AutoAddPolicy", "WarningPolicy", "MissingHostKey", "SSHClient"):
            assert name not in text, f"{path} uses {name}"
        if re.search(r"\bTransport\(", text) and "paramiko" in text:
            makers.append(path.relative_to(package).as_posix())
    assert makers == ["devices/ssh/connection.py"]
