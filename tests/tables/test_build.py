from __future__ import annotations

from pathlib import Path

import pytest

from hwloop.devices import local_device
from hwloop.errors import ModelError, UserError
from hwloop.layers import Layer
from hwloop.measurement import Bench, CampaignPlan, Identity, TimingProtocol, TrialStore
from hwloop.progress import Silent
from hwloop.runtimes import Artifact, OnnxRuntime, get_runtime
from hwloop.tables import LatencyTable, measure_layers

SHORT = TimingProtocol(warmup_s=0.01, min_s=0.01, max_s=0.05, min_blocks=5, target_relative_interval=0.2)
IDENTITY = Identity("a processor", "a" * 64, {})
LINEAR = Layer.parse("linear 1x64>1x32 bias float32")
POOL = Layer.parse("max_pool 1x8x4x4>1x8x2x2 k2x2 s2x2 p0,0,0,0 d1x1 float32")


class WithoutPools(OnnxRuntime):
    """A runtime that has no pools."""

    def layer(self, layer: Layer, *, seed: int = 0) -> Artifact:
        if layer.op == "max_pool":
            raise ModelError(f"this runtime has no pool: {layer.key}")
        return super().layer(layer, seed=seed)


@pytest.fixture
def bench(tmp_path: Path):
    with TrialStore(tmp_path / "trials.ndjson") as store:
        plan = CampaignPlan(processes=1, timing=SHORT, attempts=1)
        yield Bench(local_device(str(tmp_path / "device")), "test", store, plan, Silent())


def test_a_layer_that_the_runtime_refuses_is_a_row_with_its_words(bench: Bench, tmp_path: Path) -> None:
    table = measure_layers([POOL, LINEAR], WithoutPools(), bench, IDENTITY, "layers")
    table.save(tmp_path / "t.parquet")
    pool, linear = LatencyTable.load(tmp_path / "t.parquet").rows
    assert (pool.key, pool.status, pool.reasons) == (
        POOL.key,
        "unsupported",
        (f"this runtime has no pool: {POOL.key}",),
    )
    assert linear.usable
    assert pool.context == linear.context
    assert LINEAR in table
    assert POOL not in table
    assert {row.fusion for row in (pool, linear)} == {"onnxruntime-x86"}


def test_a_table_of_refusals_needs_no_device(bench: Bench) -> None:
    (row,) = measure_layers([POOL], WithoutPools(), bench, IDENTITY, "layers").rows
    assert (row.status, row.trial_ids, row.context.threads) == ("unsupported", (), 1)


def test_variants_of_a_runtime_are_never_mixed(bench: Bench) -> None:
    plain = measure_layers([LINEAR], get_runtime("litert"), bench, IDENTITY, "layers")
    other = measure_layers([LINEAR], get_runtime("litert:xnnpack=off"), bench, IDENTITY, "layers")
    assert [table.context.runtime for table in (plain, other) if table.context] == ["litert", "litert:xnnpack=off"]
    with pytest.raises(UserError, match=r"runtime \(litert / litert:xnnpack=off\)"):
        plain.merge(other)
