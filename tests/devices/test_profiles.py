"""The board profiles that come with hwloop, and mistakes in a user's own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hwloop.devices import build_zipapp, profiles
from hwloop.devices.devicefile import read_devices
from hwloop.errors import ConfigError
from hwloop_agent.compiled import compiled
from hwloop_agent.sensors import profile as agent_profile
from hwloop_agent.sysfiles import SysFiles
from hwloop_agent.throttle import CERTIFYING

KNOWN = [agent_profile.parse_profile(content) for content in json.loads(profiles.packed())]
# As the boards' own device trees say it, the most specific entry first.
BOARDS = {
    "raspberry-pi-3": ("raspberrypi,3-model-b", "brcm,bcm2837"),
    "raspberry-pi-3-plus": ("raspberrypi,3-model-b-plus", "brcm,bcm2837"),
    "raspberry-pi-4": ("raspberrypi,4-model-b", "brcm,bcm2711"),
    "raspberry-pi-5": ("raspberrypi,5-model-b", "brcm,bcm2712"),
    "jetson-nano": ("nvidia,p3450-0000", "nvidia,jetson-nano", "nvidia,tegra210"),
    "jetson-tx2": ("nvidia,p2771-0000", "nvidia,tegra186"),
    "jetson-xavier-nx": ("nvidia,p3509-0000+p3668-0001", "nvidia,p3668-0001", "nvidia,tegra194"),
    "jetson-agx-xavier": ("nvidia,p2972-0000", "nvidia,tegra194"),
    "jetson-orin-nano-nx": ("nvidia,p3768-0000+p3767-0005", "nvidia,p3767-0005", "nvidia,tegra234"),
    "jetson-agx-orin": ("nvidia,p3737-0000+p3701-0000", "nvidia,p3701-0000", "nvidia,tegra234"),
}
MODELS = {
    "raspberry-pi-3": "Raspberry Pi 3 Model B Rev 1.2",
    "raspberry-pi-3-plus": "Raspberry Pi 3 Model B Plus Rev 1.3",
    "raspberry-pi-4": "Raspberry Pi 4 Model B Rev 1.4",
    "raspberry-pi-5": "Raspberry Pi 5 Model B Rev 1.0",
    "jetson-nano": "NVIDIA Jetson Nano Developer Kit",
    "jetson-orin-nano-nx": "NVIDIA Jetson Orin Nano Developer Kit",
    "jetson-agx-orin": "NVIDIA Jetson AGX Orin Developer Kit",
}


def board(folder: Path, name: str, text: str) -> SysFiles:
    (folder / "proc/device-tree").mkdir(parents=True)
    (folder / "proc/device-tree" / name).write_text(text)
    return SysFiles(str(folder / "proc"), str(folder / "sys"))


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_is_recognised_by_its_device_tree(name, tmp_path):
    files = board(tmp_path, "compatible", "\0".join(BOARDS[name]) + "\0")
    assert agent_profile.recognise(files, KNOWN, "aarch64").name == name


@pytest.mark.parametrize("name", MODELS)
def test_a_board_is_recognised_by_its_model_alone(name, tmp_path):
    files = board(tmp_path, "model", MODELS[name] + "\0")
    assert agent_profile.recognise(files, KNOWN, "aarch64").name == name


@pytest.mark.parametrize("copy", [False, True], ids=["agent file", "compiled copy"])
def test_the_profiles_are_in_what_the_agent_is_started_from(copy, tmp_path):
    path = tmp_path / "agent.pyz"
    path.write_bytes(build_zipapp())
    if copy:
        data = compiled(str(path))
        path = tmp_path / "copy.zip"
        path.write_bytes(data)
    code = (
        f"import sys; sys.path.insert(0, {str(path)!r}); from hwloop_agent.sensors.profile import built_in; "
        "print(*sorted(profile.name for profile in built_in()))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == sorted(profiles.built_in())


def test_everything_else_is_generic(tmp_path):
    files = board(tmp_path, "compatible", "rockchip,rk3588\0")
    assert agent_profile.recognise(files, KNOWN, "aarch64").name == "generic-linux"
    assert agent_profile.recognise(files, KNOWN, "x86_64").name == "generic-x86"


@pytest.mark.parametrize("name", sorted(profiles.built_in()))
def test_each_profile_says_where_it_is_from_and_asks_for_evidence_that_certifies(name):
    found = profiles.built_in()[name]
    if name != "generic-linux":
        assert found.notes.sources
        assert CERTIFYING & set(found.throttle.needs)
    patterns = [*found.match.compatible, *found.match.model, *found.match.arch]
    assert patterns
    others = [other for key, other in profiles.built_in().items() if key != name]
    for other in others:
        assert not set(patterns) & {*other.match.compatible, *other.match.model, *other.match.arch}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('title = "x', "cannot be read"),
        ("[match]", "title: Field required"),
        ('title = "x"\n[power]\nrails = "VDD_IN"', "power.rails: Input should be a valid list, not 'VDD_IN'"),
        ('title = "x"\n[throttle]\nneeds = ["magic"]', "throttle.needs.0: Input should be 'pi_firmware'"),
        ('title = "x"\n[temperature]\nthrottle_c = "hot"', "temperature.throttle_c: Input should be a valid number"),
        ('title = "x"\ncolour = "red"', "colour: Extra inputs are not permitted"),
    ],
)
def test_a_mistake_is_one_line_with_file_and_key(text, words, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        profiles.find_profile(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_device_names_a_profile_beside_its_inventory_or_one_of_hwloops(tmp_path):
    (tmp_path / "mine.toml").write_text('title = "mine"\n[power]\nrails = ["VDD_IN"]\n')
    inventory = tmp_path / "devices.toml"
    inventory.write_text('[devices.a]\nboard = "mine.toml"\n[devices.b]\nboard = "raspberry-pi-4"\n[devices.c]\n')
    first, second, third = read_devices(inventory)
    assert first.board_profile() == {"name": "mine", "title": "mine", "rails": ["VDD_IN"], "period_ms": 100.0}
    assert second.board_profile()["needs"] == ["pi_firmware"]
    assert third.board_profile() is None
    inventory.write_text('[devices.a]\nboard = "raspberry-pi-12"\n')
    with pytest.raises(ConfigError, match=r"no board profile 'raspberry-pi-12' \(known: generic-linux"):
        read_devices(inventory)[0].board_profile()
