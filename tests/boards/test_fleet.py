"""Two boards measured at the same time; one of them dies."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import onnx
import pytest

from hwloop.cli.main import main
from hwloop.devices.devicefile import add_device
from hwloop.errors import DeviceError
from hwloop.measurement import Bench, CampaignPlan, TimingProtocol, TrialStore, run_campaign, run_fleet
from hwloop.progress import Silent
from hwloop.tables import LatencyTable
from tests.boards.x86 import X86Board
from tests.devices.conftest import build_model
from tests.measurement.test_execution import make_subjects

pytestmark = pytest.mark.board
PLAN = CampaignPlan(
    processes=2,
    timing=TimingProtocol(warmup_s=0.01, min_s=0.01, max_s=0.05, min_blocks=5, target_relative_interval=0.2),
    attempts=1,
)


def test_a_board_that_dies_does_not_stop_the_other(make_board, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    boards: dict[str, X86Board] = {name: make_board(name) for name in ("alive", "dying")}
    subjects = make_subjects(4)
    both_measure = threading.Barrier(2, timeout=60)

    def work(name: str) -> int:
        board = boards[name]
        with TrialStore(tmp_path / f"{name}.ndjson") as store:
            bench = Bench(board.device(name), "fleet", store, PLAN, Silent())

            def open_session():
                session = bench.open_session()
                run_trial, ran = session.run_trial, []

                def run(trial_id, spec):
                    if not ran:
                        ran.append(trial_id)
                        if len(store) == 0:
                            both_measure.wait()
                    if name == "dying" and len(store) == 3:
                        board.cut()
                        board.stop()
                    return run_trial(trial_id, spec)

                session.run_trial = run
                return session

            run_campaign(subjects, PLAN, store, open_session, Silent(), name, sleep=lambda _: None)
            return len(store)

    outcomes = run_fleet({name: (lambda name=name: work(name)) for name in boards})
    assert outcomes["alive"].result == 8
    assert outcomes["alive"].error is None
    assert outcomes["dying"].result is None
    assert isinstance(outcomes["dying"].error, DeviceError)
    assert "(3 of 8 trials are measured and kept" in str(outcomes["dying"].error)
    boards["dying"].start()
    with TrialStore(tmp_path / "dying.ndjson") as store:
        assert len(store) == 3
        bench = Bench(boards["dying"].device("dying"), "fleet", store, PLAN, Silent())
        assert all(one.usable for one in bench.measure(subjects, "again").values())


def test_the_command_measures_every_device_it_can_and_says_what_is_missing(
    make_board, tmp_path: Path, monkeypatch, capfd
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        add_device(tmp_path / "devices.toml", make_board(name).device(name))

    def hwloop(*words: str, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["hwloop", *words])
        with pytest.raises(SystemExit) as end:
            main()
        said = capfd.readouterr()
        assert (end.value.code or 0) == code, said
        return " ".join((said.out + said.err).split())

    model = onnx.load_from_string(build_model(8, 8).data)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, tmp_path / "one.onnx")
    build = ("table", "build", "one.onnx", "--device", "a", "--device", "b", "--processes", "1")
    assert "need a folder" in hwloop(*build, "-o", "t.parquet", code=2)
    hwloop("device", "mark", "b", "maintenance", "--reason", "new fan")
    said = hwloop(*build, "-o", "tables", code=1)
    assert "a: complete, 1 layer: tables/a.parquet" in said
    assert "b: failed: device b is in maintenance" in said
    assert "1 of 2 devices are not complete: b" in said
    hwloop("device", "mark", "b", "clear")
    assert "b: complete, 1 layer: tables/b.parquet" in hwloop(*build, "-o", "tables")
    for name in ("a", "b"):
        table = LatencyTable.load(tmp_path / f"tables/{name}.parquet")
        assert table.context is not None
        assert table.context.device == name
        assert all(row.usable and row.emulated is False for row in table.rows)
