from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hwloop.cli.main import main
from hwloop.devices import local_device
from hwloop.layers import Layer
from hwloop.measurement import Bench, CampaignPlan, TrialStore
from hwloop.progress import Silent
from hwloop.runtimes import get_runtime
from hwloop_agent.journal import read_records

STATES = ("a.state", "r.state", "state")
KEY = "conv 1x8x8x8>1x8x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu float32"


def hwloop(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hwloop", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What this machine is, asked once: that imports every runtime."""
    folder = tmp_path_factory.mktemp("facts")
    with TrialStore(folder / "trials.ndjson") as store:
        bench = Bench(local_device(str(folder / "device")), "facts", store, CampaignPlan(), Silent())
        bench.identify(folder / "device.json")
    return (folder / "device.json").read_text()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: str) -> Path:
    """A working directory with an ONNX file; the state folders that the tests use know the device already."""
    monkeypatch.chdir(tmp_path)
    for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    (tmp_path / "net.onnx").write_bytes(get_runtime("onnxruntime").layer(Layer.parse(KEY)).data)
    for name in STATES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "device-local.json").write_text(facts)
    return tmp_path


def test_a_network_is_measured_shown_and_compared_with_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    measure = ("measure", "net.onnx", "--processes", "2", "--layers", "--profile", "--json", "a.json")
    assert hwloop(monkeypatch, *measure) == 0
    shown = capfd.readouterr().out
    for part in (
        "end to end",
        "sum of layers alone",
        "peak resident set",
        "VmHWM",
        "artifact",
        "noise floor",
        "profile",
    ):
        assert part in shown
    trials = folder / "a.state" / "trials.ndjson"
    before = trials.read_bytes()
    assert hwloop(monkeypatch, *measure) == 0
    assert trials.read_bytes() == before, "measured again"
    capfd.readouterr()
    assert hwloop(monkeypatch, "compare", "a.json", "a.json") == 0
    said = " ".join(capfd.readouterr().out.split())
    assert "B is within noise" in said
    assert "B / A = 1.000" in said
    assert hwloop(monkeypatch, "compare", "a.json", "a.json", "--json") == 0
    verdict = json.loads(capfd.readouterr().out)
    assert (verdict["verdict"], verdict["ratio"]) == ("within noise", 1.0)
    assert verdict["layers"][0]["key"] == KEY


def test_json_on_stdout_is_nothing_but_json(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert hwloop(monkeypatch, "measure", "net.onnx", "--processes", "1", "--json", "-", "-o", "state") == 0
    result = json.loads(capfd.readouterr().out)
    assert result["end_to_end"]["latency_ms"] > 0
    assert result["runtime"] == "onnxruntime"
    assert len(read_records(folder / "state" / "trials.ndjson")[0]) >= 1


def test_an_onnx_file_is_measured_without_torch(folder: Path) -> None:
    script = (
        "import sys\nsys.modules['torch'] = None\nfrom hwloop.cli.main import main\n"
        "sys.argv = ['hwloop', 'measure', 'net.onnx', '--processes', '1', '--layers', '--json', 'r.json']\nmain()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "r.json").read_text())["derived"]["sum_of_layers_ms"] > 0


def test_results_that_differ_in_threads_are_refused_by_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert hwloop(monkeypatch, "measure", "net.onnx", "--processes", "1", "--json", "a.json") == 0
    other = json.loads((folder / "a.json").read_text()) | {"threads": 2}
    (folder / "b.json").write_text(json.dumps(other))
    capfd.readouterr()
    assert hwloop(monkeypatch, "compare", "a.json", "b.json") == 2
    error = capfd.readouterr().err.strip()
    assert "threads: 1 / 2" in error
    assert len(error.splitlines()) == 1
    assert hwloop(monkeypatch, "compare", "a.json", "b.json", "--across", "threads") == 0
    assert "differs: threads: 1 / 2" in capfd.readouterr().out


def test_what_the_runtime_cannot_do_is_said_and_the_exit_code_is_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (folder / "net.tflite").write_bytes(b"no model")
    assert hwloop(monkeypatch, "measure", "net.tflite", "--json", "r.json") == 1
    assert "onnxruntime loads .onnx files, not .tflite" in " ".join(capfd.readouterr().out.split())
    assert json.loads((folder / "r.json").read_text())["end_to_end"]["status"] == "unsupported"


def test_nonsense_is_one_line_and_exit_code_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for arguments, part in (
        (("measure", "resnet9"), "resnet8"),
        (("measure", "lenet5", "--input", "28"), "3x32x32"),
        (("measure", "lenet5", "--input", "1x28x30"), "square"),
        (("measure", "lenet5", "--runtime", "onnxrutime"), "onnxruntime"),
        (("measure", "lenet5", "--runtime", "onnxruntime:int3"), "provider=cpu"),
        (("measure", "lenet5", "--runtime", "onnxruntime:provider=abacus"), "xnnpack"),
        (("measure", "net.onnx", "--runtime", "onnxruntime:cuda", "-o", "state"), "CUDAExecutionProvider"),
        (("measure", "net.onnx", "--device", "nowhere"), "nowhere"),
        (("measure", "none.onnx"), "none.onnx"),
        (("compare", "net.onnx", "none.json"), "net.onnx"),
    ):
        assert hwloop(monkeypatch, *arguments) == 2, arguments
        error = capfd.readouterr().err.strip()
        assert part in error
        assert len(error.splitlines()) == 1
