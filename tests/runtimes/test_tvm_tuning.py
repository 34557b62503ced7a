"""Choosing schedules for TVM: no part of this needs TVM. See test_tvm.py for the rest."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest

from hwloop.errors import DataError, UserError
from hwloop.layers import Layer
from hwloop.runtimes.tvm import Effort, Records, Tuner, target_from_facts
from hwloop.runtimes.tvm.layers import layer_of, task_of, tasks_of_layers
from hwloop.runtimes.tvm.runtime import described
from hwloop.runtimes.tvm.schedule import Schedule, VectorUnit, candidates, estimate
from hwloop.runtimes.tvm.target import processor
from hwloop.runtimes.tvm.task import ConvTask, DenseTask, Epilogue, Task
from hwloop.runtimes.tvm.tuner import Choice, difference, distance

AVX2, NEON = VectorUnit(8, 16), VectorUnit(4, 32)
CONV = ConvTask(1, 16, (32, 32), 16, (3, 3), padding=(1, 1, 1, 1))
WIDER = ConvTask(1, 32, (16, 16), 32, (3, 3), padding=(1, 1, 1, 1))
POINT = ConvTask(1, 96, (14, 14), 24, (1, 1))
DEPTHWISE = ConvTask(1, 32, (14, 14), 32, (3, 3), (2, 2), (1, 1, 1, 1), groups=32)
DENSE = DenseTask(1, 400, 120)
PRODUCT = DenseTask(7, 16, 24, pairs=4)
TASKS = [
    CONV,
    WIDER,
    POINT,
    DEPTHWISE,
    DENSE,
    PRODUCT,
    ConvTask(1, 3, (1, 1), 2, (1, 1)),
    ConvTask(2, 8, (5, 5), 12, (3, 2)),
]


class Bench:
    """A timer whose times are known: the best schedule is the one nearest to `wanted`."""

    def __init__(self, wanted: str) -> None:
        self.wanted = Schedule.parse(wanted)
        self.timed: list[tuple[str, str]] = []
        self.now = 0.0

    def __call__(self, task: Task, schedules: Sequence[Schedule]) -> list[float]:
        self.timed += [(task.key, one.text) for one in schedules]
        self.now += len(schedules)
        return [10.0 + distance(one, self.wanted) for one in schedules]

    def clock(self) -> float:
        return self.now


@pytest.mark.parametrize("unit", [AVX2, NEON])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.key)
def test_candidates_fit_the_registers_and_the_output_best_guess_first(task: Task, unit: VectorUnit) -> None:
    found = candidates(task, unit)
    assert found
    assert len(set(found)) == len(found)
    assert all(one.accumulators < unit.registers for one in found)
    guesses = [estimate(task, one, unit) for one in found]
    assert guesses == sorted(guesses)
    assert [Schedule.parse(one.text) for one in found] == found
    if isinstance(task, ConvTask) and not task.depthwise:
        assert all(one.channels <= task.group_filters for one in found if one.kind == "direct")


def test_the_estimate_prefers_many_accumulators_and_little_overlap() -> None:
    best = candidates(CONV, AVX2)[0]
    assert best.kind == "direct"
    assert best.accumulators >= 8
    assert CONV.output_size[1] % (best.columns * AVX2.lanes) == 0
    one_pixel = candidates(ConvTask(1, 64, (1, 1), 64, (1, 1)), AVX2)[0]
    assert one_pixel.kind == "packed"


@pytest.mark.parametrize("text", ["direct 1x2 outer", "sparse 1x1x1 outer", "direct 1x1x1 sideways", "direct 1x1x1"])
def test_what_is_no_schedule_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"schedule|unpack"):
        Schedule.parse(text)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.key)
def test_a_task_is_the_task_of_its_layer(task: Task) -> None:
    assert task_of(layer_of(task)) == task
    assert layer_of(task).macs == task.macs


def test_the_same_geometry_is_one_task_whatever_is_fused_and_other_layers_have_none() -> None:
    keys = [
        "conv 1x16x8x8>1x16x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu float32",
        "conv 1x16x8x8>1x16x8x8 k3x3 s1x1 p1,1,1,1 d1x1 g1 bias relu +add float32",
        "linear 1x7x32>1x7x16 float32",
        "relu 1x16>1x16 float32",
    ]
    found = tasks_of_layers(map(Layer.parse, keys))
    assert [task.key for task in found] == [
        *("conv 1x16x8x8>1x16x8x8 k3x3 s1x1 p1x1x1x1 d1x1 g1",) * 2,
        "dense 7x32>7x16",
    ]


def test_the_search_finds_the_best_of_a_smooth_landscape_in_few_trials(tmp_path: Path) -> None:
    records = Records(tmp_path / "records.jsonl", "here")
    tuner, bench = Tuner(AVX2, records), Bench("direct 4x1x2 inner")
    spent = tuner.tune([CONV], bench, Effort(trials=16), bench.clock)
    assert spent == bench.now
    choice = tuner.choose(CONV)
    assert (choice.source, choice.trials) == ("measured", 16)
    assert distance(choice.schedule, bench.wanted) <= 1.5
    assert len(candidates(CONV, AVX2)) > 60  # so that it did not just try them all


def test_records_are_used_again_and_the_same_geometry_is_timed_once(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "records.jsonl"
    first = Bench("direct 4x1x2 inner")
    fused = ConvTask(**{**vars(CONV), "epilogue": Epilogue(bias=True, low=0.0)})
    Tuner(AVX2, Records(path, "here")).tune([CONV, fused], first, Effort(trials=6), first.clock)
    assert {key for key, _ in first.timed} == {CONV.key}
    again = Bench("direct 4x1x2 inner")
    tuner = Tuner(AVX2, Records(path, "here"))
    tuner.tune([fused], again, Effort(trials=6), again.clock)
    assert again.timed == []
    assert tuner.choose(fused) == tuner.choose(CONV)
    assert tuner.choose(CONV).trials == 6
    elsewhere = Tuner(AVX2, Records(path, "another machine"))
    assert elsewhere.choose(CONV).source == "estimated"


def test_a_task_with_few_candidates_is_timed_once_too() -> None:
    tuner, bench = Tuner(AVX2, Records(None, "here")), Bench("depthwise 1x1x1 outer")
    tuner.tune([DEPTHWISE], bench, Effort(trials=100), bench.clock)
    assert tuner.choose(DEPTHWISE).trials == len(candidates(DEPTHWISE, AVX2)) < 100
    bench.timed.clear()
    tuner.tune([DEPTHWISE], bench, Effort(trials=100), bench.clock)
    assert bench.timed == []


def test_what_was_best_for_a_similar_task_is_chosen_and_tried_first(tmp_path: Path) -> None:
    tuner, bench = Tuner(AVX2, Records(None, "here")), Bench("direct 3x2x1 outer")
    tuner.tune([CONV], bench, Effort(trials=100), bench.clock)
    best = tuner.choose(CONV).schedule
    assert tuner.choose(WIDER) == Choice(best, "transferred", 0)
    assert tuner.choose(POINT).source == "estimated"  # another kernel is not similar
    bench.timed.clear()
    tuner.tune([WIDER], bench, Effort(trials=4), bench.clock)
    assert bench.timed[0] == (WIDER.key, best.text)
    assert tuner.choose(WIDER).source == "measured"


def test_no_search_begins_behind_the_time_limit_and_the_costly_come_first() -> None:
    tuner, bench = Tuner(AVX2, Records(None, "here")), Bench("direct 4x1x2 inner")
    tuner.tune([POINT, CONV, DENSE], bench, Effort(trials=4, seconds=1.0), bench.clock)
    assert {key for key, _ in bench.timed} == {CONV.key}
    assert CONV.macs > POINT.macs > DENSE.macs
    bench.timed.clear()
    often = [CONV] + [POINT] * 6
    Tuner(AVX2, Records(None, "here")).tune(often, bench, Effort(trials=4, seconds=1.0), bench.clock)
    assert {key for key, _ in bench.timed} == {POINT.key}


def test_what_cannot_be_compiled_is_noted_and_never_chosen() -> None:
    records = Records(None, "here")
    tuner = Tuner(AVX2, records)
    worst, second = candidates(CONV, AVX2)[:2]
    records.add(CONV.key, worst, math.inf)
    records.add(CONV.key, second, 5.0)
    assert tuner.choose(CONV) == Choice(second, "measured", 2)


def test_of_several_timings_of_a_schedule_the_shortest_counts() -> None:
    records, schedule = Records(None, "here"), Schedule("direct", 4, 1, 2)
    for us in (9.0, 7.0, 8.0):
        records.add(CONV.key, schedule, us)
    assert records.timings(CONV.key) == {schedule: 7.0}


def test_a_line_torn_by_a_kill_is_passed_over_and_a_damaged_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    schedule = Schedule("direct", 4, 1, 2)
    Records(path, "here").add(CONV.key, schedule, 7.0)
    with path.open("a") as file:
        file.write('{"target": "here", "task": "conv')
    again = Records(path, "here")
    assert again.timings(CONV.key) == {schedule: 7.0}
    again.add(CONV.key, Schedule("direct", 2, 1, 2), 3.0)
    assert len(Records(path, "here").timings(CONV.key)) == 2
    assert [json.loads(line)["us"] for line in path.read_text().splitlines() if line.endswith("}")] == [7.0, 3.0]
    path.write_text('{"target": "here", "task": "conv 1", "schedule": "magic", "us": 1}\n')
    with pytest.raises(DataError, match=r"records\.jsonl, line 1"):
        Records(path, "here")


def test_similarity_is_of_kind_and_geometry_and_grows_with_size() -> None:
    assert difference(CONV.key, CONV.key) == 0
    assert 0 < difference(CONV.key, WIDER.key) < math.inf
    strided = ConvTask(**{**vars(CONV), "stride": (2, 2)})
    for other in (POINT, DEPTHWISE, DENSE, strided):
        assert difference(CONV.key, other.key) == math.inf
    assert difference(DENSE.key, DenseTask(1, 400, 240).key) == pytest.approx(1.0)
    assert difference(DENSE.key, DenseTask(7, 400, 120).key) == math.inf


def test_an_artifact_says_which_schedules_it_carries_and_how_they_were_found() -> None:
    assert described([]) == {"schedule": "default", "source": "default", "trials": 0}
    one = Choice(Schedule("direct", 4, 1, 2), "measured", 12)
    assert described([one]) == {"schedule": "direct 4x1x2 outer", "source": "measured", "trials": 12}
    assert described([one], left=2) == {
        "schedule": "2 default, 1 direct",
        "source": "2 default, 1 measured",
        "trials": 12,
    }
    guess = Choice(Schedule("dense", 8, 1, 1), "estimated", 0)
    assert described([one, one, guess]) == {
        "schedule": "1 dense, 2 direct",
        "source": "1 estimated, 2 measured",
        "trials": 24,
    }


@pytest.mark.parametrize(
    ("facts", "cpu"),
    [
        ({"arch": "aarch64", "cpu_implementer": "0x41", "cpu_part": "0xd08"}, "cortex-a72"),
        ({"arch": "aarch64", "cpu_implementer": "0x41", "cpu_part": "0xfff"}, "generic"),
        ({"arch": "aarch64", "cpu_implementer": "0x61", "cpu_part": "0xd08"}, "generic"),
        ({"arch": "aarch64"}, "generic"),
        ({"arch": "x86_64", "cpu_flags": "fpu sse4_2 popcnt cx16 avx2 fma bmi2 f16c movbe"}, "x86-64-v3"),
        ({"arch": "x86_64", "cpu_flags": "fpu sse4_2 popcnt cx16 avx2"}, "x86-64-v2"),
        ({"arch": "x86_64"}, "x86-64"),
    ],
)
def test_the_processor_comes_from_the_devices_facts(facts: dict[str, str], cpu: str) -> None:
    assert processor(facts["arch"], facts) == cpu


def test_a_board_has_neon_and_a_processor_without_a_target_is_refused() -> None:
    found = target_from_facts({"arch": "aarch64", "cpu_implementer": "0x41", "cpu_part": "0xd08"})
    assert (found.text, found.unit, found.host) == ("aarch64-linux-gnu cortex-a72", NEON, False)
    assert target_from_facts({"arch": "aarch64", "python_arch": "armv7l"}).triple == "armv7l-linux-gnueabihf"
    with pytest.raises(UserError, match=r"aarch64.*not for riscv64"):
        target_from_facts({"arch": "riscv64"})
