"""A device's health: what makes it good, degraded or bad, and that the verdict is kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwloop.devices import Device, SshAccess, local_device
from hwloop.devices.health import (
    Findings,
    HealthReport,
    _clock_off,
    begin_maintenance,
    check_device,
    forget_health,
    judge,
    load_health,
    require_fit,
    save_health,
)
from hwloop.devices.ssh.hostkey import HostKey
from hwloop.errors import UserError

FINE = Findings(
    canary_spread=0.005,
    trial={"status": "ok", "reasons": []},
    is_journalled=True,
    cut_bytes=0,
    free_bytes=10**10,
    clock_off_s=0.0,
    runtimes={"onnxruntime": "ok", "litert": "unsupported"},
    connect_s=0.5,
)


def test_a_quiet_device_is_good():
    assert judge(FINE) == ("good", ())
    assert judge(replace(FINE, free_bytes=None)) == ("good", ())


@pytest.mark.parametrize(
    ("change", "health", "words"),
    [
        ({"canary_spread": 0.3}, "degraded", "canary varies by 30.0 % .limit 5 %"),
        ({"cut_bytes": 7}, "degraded", "7 damaged bytes"),
        ({"free_bytes": 10**8}, "degraded", "100 MB of disk are left .limit 500 MB"),
        ({"free_bytes": 10**6}, "bad", "1 MB of disk are left .limit 20 MB"),
        ({"clock_off_s": -9e6}, "degraded", "clock is off by -9000000 s"),
        ({"runtimes": {"onnxruntime": "SIGSEGV", "litert": "ok"}}, "degraded", r"onnxruntime \(SIGSEGV\)"),
        ({"runtimes": {"onnxruntime": "unsupported"}}, "degraded", "no runtime that works"),
        ({"is_journalled": False}, "bad", "does not keep"),
        ({"trial": {"status": "degraded", "reasons": ["throttled"]}}, "degraded", "anchor trial: throttled"),
        ({"trial": {"status": "crashed", "reasons": ["SIGILL"]}}, "bad", "ended crashed: SIGILL"),
    ],
)
def test_what_is_wrong_is_told_with_its_limit(change, health, words):
    import re

    verdict, reasons = judge(replace(FINE, **change))
    assert verdict == health
    assert len(reasons) == 1
    assert re.search(words, reasons[0]), reasons


def test_only_a_bad_device_and_one_in_maintenance_are_refused_with_the_remedy(tmp_path):
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    device = Device("pi", "local", "python3", "python3")
    require_fit(device, environ)
    for health in ("good", "degraded"):
        save_health(device, HealthReport(health, ("hot",), "today"), environ)
        require_fit(device, environ)
    save_health(device, HealthReport("bad", ("disk full",), "today"), environ)
    with pytest.raises(UserError, match=r"pi is bad .* today: disk full; repair it, then run: hwloop device check pi"):
        require_fit(device, environ)
    begin_maintenance(device, "new fan", environ)
    with pytest.raises(UserError, match=r"pi is in maintenance .*: new fan; end it with: hwloop device mark pi clear"):
        require_fit(device, environ)
    forget_health(device, environ)
    require_fit(device, environ)


def test_a_clock_is_off_only_outside_the_span_of_the_trial():
    assert _clock_off("2026-11-23T10:00:00Z", 1795428000.4, 1795428003.0) == 0
    assert _clock_off("2026-11-23T10:00:00Z", 1795428100.0, 1795428103.0) == -99
    assert _clock_off("2026-11-23T10:00:00Z", 1795427900.0, 1795427990.0) == 10
    assert _clock_off("yesterday", 0.0, 0.0) == float("inf")


def test_this_machine_is_checked_for_real(tmp_path):
    report = check_device(local_device(str(tmp_path / "root")))
    assert report.health in ("good", "degraded"), report.reasons
    assert report.figures["is_journalled"]
    assert report.figures["runtimes"]["onnxruntime"] == "ok"
    assert report.figures["clock_off_s"] == 0
    again = check_device(local_device(str(tmp_path / "root")))
    assert again.figures["trial"]["trial_id"] != report.figures["trial"]["trial_id"], (
        "the second check measured nothing"
    )


def test_a_device_that_cannot_start_an_agent_is_bad(tmp_path):
    report = check_device(Device("x", "local", "/nowhere/python", "/nowhere/python", str(tmp_path)))
    assert report.health == "bad"
    assert "/nowhere/python cannot be started" in report.reasons[0]


def test_the_verdict_is_kept_per_device_and_not_by_name_alone(tmp_path):
    environ = {"XDG_STATE_HOME": str(tmp_path)}
    key = HostKey.parse("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGtJ7dWN1dRkD1n8wqbXoFZbMUZ0kbxmB1EFqRVWGDFq")
    device = Device("pi", "ssh", "python3", "python3", None, SshAccess("h", host_key=key))
    report = HealthReport("degraded", ("hot",), "2026-11-23T10:00:00+00:00", {"connect_s": 1.0})
    assert load_health(device, environ).health == "unknown"
    save_health(device, report, environ)
    assert load_health(device, environ) == report
    assert load_health(replace(device, ssh=SshAccess("h")), environ).health == "unknown"
    next((tmp_path / "hwloop/health").iterdir()).write_text('{"health": 3')
    assert load_health(device, environ).health == "unknown"
    forget_health(device, environ)
    forget_health(device, environ)
