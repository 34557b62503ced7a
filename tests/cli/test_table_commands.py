"""`hwloop table merge|filter|compare|export|import|list|plot`: what they print, write, and refuse."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from hwloop.cli.main import main
from hwloop.layers import Layer
from hwloop.tables import Context, LatencyTable, Row

PI = Context("pi", "Pi 4", "onnxruntime", "1.23.2", 1)
Hwloop = Callable[..., tuple[int, str, str]]


@pytest.fixture
def hwloop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Hwloop:
    """Runs `hwloop table …` in an empty folder; returns exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    for name in ("CACHE", "CONFIG", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / "home" / name))
    monkeypatch.setattr("hwloop.tables.shipped_folder", lambda: None)

    def run(*arguments: str, group: str = "table") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["hwloop", group, *arguments])
        with pytest.raises(SystemExit) as end:
            main()
        captured = capfd.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return run


def conv(width: int, latency_ms: float, **fields: object) -> Row:
    key = Layer("conv", ((1, 8, 8, 8),), (1, width, 8, 8), kernel=(3, 3), padding=(1, 1, 1, 1)).key
    numbers = (latency_ms, 0.99 * latency_ms, 1.01 * latency_ms, (latency_ms, latency_ms))
    given: dict[str, object] = {"clock_mhz": 1500.0, "governor": "performance", **fields}
    return Row(key, *numbers, 5_000_000, 1000, "ok", (), PI, **given)  # type: ignore[arg-type]


def save(name: str, *rows: Row) -> None:
    LatencyTable(rows).save(Path(name))


def refused(outcome: tuple[int, str, str], text: str) -> None:
    code, _, error = outcome
    assert code == 2
    assert text in error
    assert len(error.strip().splitlines()) == 1


def test_merging_refuses_other_clocks_unless_told_and_then_says_so(hwloop: Hwloop) -> None:
    save("fast.parquet", conv(8, 1.0))
    save("more.parquet", conv(16, 2.0), conv(24, 3.0))
    save("slow.parquet", conv(32, 9.0, clock_mhz=600.0))
    assert hwloop("merge", "fast.parquet", "more.parquet", "-o", "all.parquet")[:2] == (
        0,
        "all.parquet: 3 rows of 2 tables\n",
    )
    before = Path("all.parquet").read_bytes()
    refused(
        hwloop("merge", "all.parquet", "slow.parquet", "-o", "all.parquet"),
        "slow.parquet: cannot merge latency tables that differ in clock (1500 MHz / 600 MHz)",
    )
    assert Path("all.parquet").read_bytes() == before
    code, out, _ = hwloop("merge", "all.parquet", "slow.parquet", "-o", "all.parquet", "--mix", "clock")
    assert (code, out.splitlines()[-1]) == (0, "mixed knowingly: clock (1500 MHz / 600 MHz)")
    assert len(LatencyTable.load(Path("all.parquet"))) == 4
    assert "mixed knowingly: clock (1500 MHz / 600 MHz)" in hwloop("show", "all.parquet")[1]
    refused(hwloop("merge", "fast.parquet", "-o", "x.parquet"), "two tables or more")
    refused(hwloop("merge", "fast.parquet", "none.parquet", "-o", "x.parquet"), "no latency table at none.parquet")


def test_a_mixed_or_damaged_table_is_refused_and_nothing_is_touched(hwloop: Hwloop) -> None:
    save("a.parquet", conv(8, 1.0))
    save("b.parquet", replace(conv(16, 2.0), context=replace(PI, runtime="litert")))
    Path("cut.parquet").write_bytes(Path("a.parquet").read_bytes()[:700])
    kept = {path: path.read_bytes() for path in Path().glob("*.parquet")}
    refused(hwloop("merge", "a.parquet", "b.parquet", "-o", "a.parquet"), "runtime (onnxruntime / litert)")
    for command in ("filter", "export", "plot"):
        refused(hwloop(command, "cut.parquet", "-o", "a.parquet"), "not readable Parquet")
    refused(hwloop("import", "cut.parquet", "-o", "a.parquet"), "its name tells no format")
    refused(hwloop("merge", "a.parquet", "cut.parquet", "-o", "a.parquet"), "cut.parquet")
    assert {path: path.read_bytes() for path in Path().glob("*.parquet")} == kept


def test_filtering_keeps_rows_and_refuses_an_empty_answer(hwloop: Hwloop) -> None:
    save("t.parquet", conv(8, 1.0), conv(16, 2.0))
    assert hwloop("filter", "t.parquet", "-o", "f.parquet", "--op", "conv", "--key", "*>1x16x*")[:2] == (
        0,
        "f.parquet: 1 of 2 rows\n",
    )
    refused(hwloop("filter", "t.parquet", "-o", "g.parquet", "--status", "crashed"), "none of the 2 rows")
    refused(
        hwloop("filter", "t.parquet", "-o", "g.parquet", "--op", "convolution"), "no such operation; known are conv"
    )
    assert not Path("g.parquet").exists()


def test_comparing_gives_every_layer_a_verdict(hwloop: Hwloop) -> None:
    save("a.parquet", conv(8, 1.0), conv(16, 2.0), conv(24, 3.0))
    save("b.parquet", conv(8, 0.5), conv(16, 2.0), conv(40, 1.0))
    code, out, _ = hwloop("compare", "a.parquet", "b.parquet")
    assert code == 0
    assert "2 layers in both: in B 1 faster, 1 within noise; B / A = 0.707 (geometric mean)" in out
    assert "1 layers have a latency in A alone" in out
    assert any("0.500" in line and "faster" in line and conv(8, 1).key in line for line in out.splitlines())
    assert conv(16, 1).key not in out
    assert conv(16, 1).key in hwloop("compare", "a.parquet", "b.parquet", "--all")[1]
    told = json.loads(hwloop("compare", "a.parquet", "b.parquet", "--json")[1])
    assert [one["verdict"] for one in told["layers"]] == ["faster", "within noise"]
    assert told["only_b"] == [conv(40, 1).key]
    save("c.parquet", replace(conv(8, 0.5), context=replace(PI, threads=2)))
    refused(hwloop("compare", "a.parquet", "c.parquet"), "threads: 1 / 2; compare them knowingly with --across threads")
    assert "differs: threads: 1 / 2" in hwloop("compare", "a.parquet", "c.parquet", "--across", "threads")[1]


def test_csv_goes_out_and_comes_back(hwloop: Hwloop) -> None:
    save("t.parquet", conv(8, 1.0), conv(16, 2.0))
    assert hwloop("export", "t.parquet", "-o", "t.csv")[:2] == (0, "t.csv: 2 rows\n")
    assert hwloop("import", "t.csv", "-o", "u.parquet")[:2] == (0, "u.parquet: 2 rows\n")
    assert Path("u.parquet").read_bytes() == Path("t.parquet").read_bytes()


def test_foreign_tables_need_to_be_told_what_they_do_not_tell(hwloop: Hwloop) -> None:
    Path("trim.yaml").write_text("Conv-input:224x224x3-output:112x112x32: {mean: 4.4, count: 9, var: 0.1}\n")
    refused(hwloop("import", "trim.yaml", "-o", "t.parquet"), "name it with --device")
    assert hwloop("import", "trim.yaml", "-o", "t.parquet", "--device", "pixel1", "--threads", "1")[0] == 0
    (row,) = LatencyTable.load(Path("t.parquet")).rows
    assert (row.context.text, row.status) == ("pixel1 (unknown), unknown unknown, threads 1", "degraded")
    Path("lut.pkl").write_bytes(b"\x80\x04}.")
    refused(hwloop("import", "lut.pkl", "-o", "t.parquet", "--device", "gpu"), "say --batch")
    refused(hwloop("import", "lut.pkl", "-o", "t.parquet", "--device", "gpu", "--batch", "4"), "holds no layers")
    Path("kernels.csv").write_text("HW,CIN,latency\n7,64,1.5\n")
    refused(hwloop("import", "kernels.csv", "-o", "t.parquet", "--device", "phone"), "say which kernel")
    assert hwloop("import", "kernels.csv", "-o", "k.parquet", "--device", "phone", "--kernel", "relu")[0] == 0
    refused(hwloop("import", "trim.yaml", "-o", "t.parquet", "--format", "xml"), "known are csv, netadapt")
    assert LatencyTable.load(Path("t.parquet")).rows == (row,)


def test_a_folder_is_listed_with_what_cannot_be_used(
    hwloop: Hwloop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Path("sub").mkdir()
    save("sub/t.parquet", conv(8, 1.0), conv(16, 2.0))
    Path("broken.parquet").write_bytes(b"PAR1")
    code, out, _ = hwloop("list")
    assert code == 0
    assert "sub/t.parquet: 2 rows, 2 with a latency" in out
    assert "  pi (Pi 4), onnxruntime 1.23.2, threads 1" in out
    assert "  cannot be used: broken.parquet is not a latency table" in out
    shipped = tmp_path / "home" / "latency_tables"
    shipped.mkdir(parents=True)
    LatencyTable([conv(8, 1.0)]).save(shipped / "s.parquet")
    monkeypatch.setattr("hwloop.tables.shipped_folder", lambda: shipped)
    told = json.loads(hwloop("list", "sub", "--json")[1])
    assert [(Path(one["path"]).name, one["rows"], one["shipped"]) for one in told] == [
        ("t.parquet", 2, False),
        ("s.parquet", 1, True),
    ]
    assert told[0]["context"]["cpu"] == "Pi 4"
    refused(hwloop("list", "none"), "there is no folder none")


def test_a_page_is_drawn_that_needs_no_network(hwloop: Hwloop) -> None:
    linear = replace(conv(8, 1.0), key="linear 1x8>1x8 float32", emulated=True)
    save("t.parquet", conv(8, 1.0), conv(16, 2.0), linear)
    assert hwloop("plot", "t.parquet", "-o", "t.html")[:2] == (0, "t.html: 2 geometries\n")
    page = Path("t.html").read_text()
    assert "conv 1xWx8x8&gt;1xWx8x8 k3x3" in page
    assert "pi (Pi 4), onnxruntime 1.23.2" in page
    assert "EMULATED" in page
    assert "arrayminus" in page
    assert 'src="http' not in page
    assert hwloop("plot", "t.parquet", "-o", "u.html", "--key", "linear *")[1] == "u.html: 1 geometries\n"
    refused(hwloop("plot", "t.parquet", "-o", "v.html", "--key", "pool *"), "there is nothing to draw")


def test_a_recording_is_added_as_a_device_and_builds_tables(hwloop: Hwloop, tmp_path: Path) -> None:
    save("old.parquet", conv(8, 1.0))
    refused(hwloop("add", "rec", "replay:old.parquet", "--project", group="device"), "tells which artifact")
    refused(hwloop("add", "rec", "replay:none.parquet", "--project", group="device"), "none.parquet cannot be read")
    save("new.parquet", conv(8, 1.0, workload_sha256="ab" * 32))
    assert hwloop("add", "rec", "replay:new.parquet", "--project", group="device")[0] == 0
    assert f'replay = "{tmp_path / "new.parquet"}"' in Path("devices.toml").read_text()
    told = json.loads(hwloop("facts", "rec", "--json", group="device")[1])
    assert (told["model"], told["replayed"]) == ("Pi 4", "new.parquet")
    assert told["runtimes"]["onnxruntime"]["version"] == "1.23.2"
    refused(hwloop("check", "rec", group="device"), "is a recording")
