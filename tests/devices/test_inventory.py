"""`devices.toml`: found, read, complained about, changed."""

from __future__ import annotations

import stat
import subprocess
import sys

import pytest

from hwloop.devices import Device, Inventory, SshAccess, local_device, replay_device
from hwloop.devices.devicefile import add_device, read_devices, remove_device
from hwloop.devices.inventory import project_inventory, user_inventory
from hwloop.devices.ssh.hostkey import HostKey
from hwloop.errors import ConfigError, UserError

KEY = HostKey.parse("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtJ7dWN1dRkD1n8wqbXoFZbMUZ0kbxmB1EFqRVWGDFq")
BOARD = Device(
    "pi4",
    "ssh",
    "python3",
    "/home/pi/venv/bin/python",
    "/home/pi/hwloop",
    SshAccess("pi.local", 2222, "pi", "~/.ssh/id", KEY, "gate", {"gate:22": KEY}),
)
PLAIN = Device("nano", "ssh", "python3", "python3", None, SshAccess("nano", host_key=KEY))
HANDMADE = f"""# Our lab. Ask Ada before you unplug anything.
[devices.pi4]   # on the window sill
host = "pi.local"   # moves
host_key = "{KEY.text}"

[devices.here]
transport = "local"
python = "/opt/python"
"""


@pytest.fixture
def file(tmp_path):
    return tmp_path / "devices.toml"


def test_what_is_added_is_read_back_the_same(file):
    add_device(file, BOARD)
    add_device(file, PLAIN)
    assert read_devices(file) == (BOARD, PLAIN)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert list(file.parent.iterdir()) == [file]


def test_what_a_person_wrote_stays(file):
    file.write_text(HANDMADE)
    add_device(file, PLAIN)
    remove_device(file, "here")
    text = file.read_text()
    assert text.startswith(HANDMADE[: HANDMADE.index("[devices.here]")].rstrip())
    assert [device.name for device in read_devices(file)] == ["pi4", "nano"]
    remove_device(file, "pi4")
    remove_device(file, "nano")
    assert file.read_text().startswith("# Our lab.")
    assert read_devices(file) == ()
    add_device(file, PLAIN)
    assert read_devices(file) == (PLAIN,)


def test_a_handmade_file_is_read(file):
    file.write_text(HANDMADE)
    pi, here = read_devices(file)
    assert (pi.transport, pi.python, pi.ssh) == ("ssh", "python3", SshAccess("pi.local", host_key=KEY))
    assert (here.transport, here.python, here.worker_python) == ("local", "/opt/python", "/opt/python")


def test_a_file_that_cannot_be_written_is_left_as_it_was(file):
    add_device(file, PLAIN)
    before = file.read_bytes()
    with pytest.raises(UserError, match=r"devices.toml: there is a device nano already; `hwloop device remove nano`"):
        add_device(file, PLAIN)
    with pytest.raises(UserError, match="cannot be called 'local'"):
        add_device(file, local_device())
    with pytest.raises(UserError, match="there is no device pi"):
        remove_device(file, "pi")
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[devices.pi\n", "cannot be read"),
        ("[device.pi]\n", "unknown key device;"),
        ("devices = 3\n", "devices is not a table"),
        ("[devices]\npi = 3\n", "devices.pi is not a table"),
        ("[devices.'a b']\n", "devices.a b cannot be a device's name"),
        ("[devices.local]\npython = 'x'\n", "devices.local cannot be a device's name"),
        ("[devices.pi]\nhost = 'h'\nhots = 'x'\n", "devices.pi.hots is unknown"),
        ("[devices.pi]\ntransport = 'local'\nhost = 'h'\n", "devices.pi.host is unknown for a device by local"),
        ("[devices.pi]\ntransport = 'pigeon'\n", "devices.pi.transport 'pigeon' does not exist"),
        ("[devices.pi]\ntransport = 'ssh'\n", "devices.pi.host is missing"),
        ("[devices.pi]\nhost = 'h'\n", "devices.pi.host_key is missing: `hwloop device add`"),
        ("[devices.pi]\nhost = 'h'\nport = 70000\n", "devices.pi.port 70000 is not a port"),
        ("[devices.pi]\nhost = 'h'\nport = true\n", "devices.pi.port True is not a port"),
        ("[devices.pi]\nhost = 3\n", "devices.pi.host is 3, not a text"),
        ('[devices.pi]\nhost = "a\\u001b[31m"\n', "devices.pi.host is 'a\\\\x1b"),
        ("[devices.pi]\nhost = 'h'\nhost_key = 'ssh-rsa AAAA'\n", "devices.pi.host_key is 'ssh-rsa AAAA'"),
        (f"[devices.pi]\nhost = 'h'\nhost_key = '{KEY.text}'\nfingerprint = 'MD5:x'\n", "devices.pi.fingerprint 'MD5"),
        (
            f"[devices.pi]\nhost = 'h'\nhost_key = '{KEY.text}'\nfingerprint = 'SHA256:{'A' * 43}'\n",
            f"devices.pi.fingerprint .* is not that of host_key, which is {KEY.fingerprint[:10]}",
        ),
        (f"[devices.pi]\nhost = 'h'\nhost_key = '{KEY.text}'\njump_keys = 3\n", "devices.pi.jump_keys is not"),
        (f"[devices.pi]\nhost = 'h'\nhost_key = '{KEY.text}'\nroot = 'x'\n", "devices.pi.root 'x' is not an absolute"),
        (
            f"[devices.pi]\nhost = 'h'\nhost_key = '{KEY.text}'\n[devices.pi.jump_keys]\n'g:22' = 'k'\n",
            "jump_keys.'g:22'",
        ),
    ],
)
def test_a_mistake_names_file_and_key(file, text, words):
    file.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_devices(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\x1b" not in str(caught.value)


def test_the_project_wins_over_the_user_and_local_is_always_there(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    inner = tmp_path / "project/deep/down"
    inner.mkdir(parents=True)
    assert project_inventory(inner) is None
    assert [device.name for device in Inventory.find(inner).devices()] == ["local"]
    project, user = tmp_path / "project/devices.toml", user_inventory()
    assert user == tmp_path / "config/hwloop/devices.toml"
    add_device(project, PLAIN)
    add_device(user, Device("nano", "ssh", "other", "other", None, PLAIN.ssh))
    add_device(user, BOARD)
    found = Inventory.find(inner)
    assert [device.name for device in found.devices()] == ["local", "nano", "pi4"]
    assert found.get("nano") == PLAIN
    assert (found.file_of("nano"), found.file_of("pi4"), found.file_of("local")) == (project, user, None)
    assert [device.name for device in Inventory.find(inner, project).devices()] == ["local", "nano"]
    with pytest.raises(UserError, match=r"no device 'pi5' .known: local, nano, pi4.; `hwloop device add pi5"):
        found.get("pi5")
    with pytest.raises(UserError, match="no such inventory"):
        Inventory.find(file=tmp_path / "missing.toml")


def test_the_users_inventory_is_in_the_home_without_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_inventory({"XDG_CONFIG_HOME": "relative"}) == tmp_path / ".config/hwloop/devices.toml"


def test_devices_without_ssh_do_not_import_paramiko():
    code = (
        "import sys; from hwloop.devices import Inventory, local_device; Inventory.find().devices();"
        "local_device().open_transport(); assert 'paramiko' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_host_key_is_checked_when_it_is_read():
    for text in ("", "ssh-ed25519", "ssh-ed25519 !!", "ssh-rsa " + KEY.base64, "SSH KEY " + KEY.base64):
        with pytest.raises(ValueError, match=r"TYPE BASE64|not a key of the type"):
            HostKey.parse(text)


def test_an_address_is_shown_as_it_is_typed():
    assert BOARD.address == "ssh://pi@pi.local:2222"
    assert SshAccess("::1", 22).url == "ssh://[::1]:22"
    assert local_device().address == "this machine"


def test_a_recording_is_a_device(file):
    file.write_text('[devices.rec]\nreplay = "t.parquet"\ntrial_s = 0.5\n')
    (device,) = read_devices(file)
    assert device == replay_device("rec", file.parent / "t.parquet", 0.5)
    assert device.address == f"replay of {file.parent / 't.parquet'}"
    remove_device(file, "rec")
    add_device(file, device)
    assert read_devices(file) == (device,)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ('transport = "replay"', r"devices.rec.replay is missing: name a latency table or a trial journal"),
        (
            'replay = "t.parquet"\nhost = "pi"\ntransport = "replay"',
            "devices.rec.host is unknown for a device by replay",
        ),
        ('replay = "t.parquet"\ntrial_s = -1', r"devices.rec.trial_s -1 is not a time"),
        ('replay = "t.parquet"\ntrial_s = "1"', r"devices.rec.trial_s '1' is not a time"),
    ],
)
def test_a_recording_that_is_described_wrongly_is_named(file, content, text):
    file.write_text(f"[devices.rec]\n{content}\n")
    with pytest.raises(ConfigError, match=text):
        read_devices(file)
