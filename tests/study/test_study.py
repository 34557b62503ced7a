from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hwloop.datasets import DataConfig, load_images
from hwloop.errors import ConfigError, StudyError
from hwloop.extraction import network_from_onnx
from hwloop.layers.ops import OPS
from hwloop.models import build_model, load_weights
from hwloop.predictors import NetworkPredictor
from hwloop.progress import Silent
from hwloop.pruning import PruningSpace, rebuild
from hwloop.runtimes import get_runtime
from hwloop.study import load_config, run_study
from hwloop.study.space import open_space
from hwloop.tables import LatencyTable
from hwloop_agent.journal import read_records
from tests.hearing import Heard
from tests.study.killing import TINY, finish, write_study

Finished = tuple[Path, Path, dict[str, Any]]


def copy_of(finished: Finished, folder: Path) -> Path:
    """The finished study, to damage."""
    study = write_study(folder)
    shutil.copytree(finished[0].parent / "study", folder / "study")
    return study


def test_the_front_is_measured_and_every_number_has_its_interval(finished: Finished) -> None:
    networks = finished[2]["networks"]
    assert networks[0]["name"] == "base"
    assert len(networks) >= 2
    for network in networks:
        assert network["measured_low_ms"] <= network["measured_ms"] <= network["measured_high_ms"]
        assert network["predicted_low_ms"] <= network["predicted_ms"] <= network["predicted_high_ms"]
        assert network["peak_bytes"] > network["model_bytes"] > 0
        assert network["speedup_low"] <= network["speedup"] <= network["speedup_high"]
    assert finished[2]["predictor"]["networks"] == 4


def test_every_exported_file_has_the_stated_accuracy_in_plain_onnxruntime(finished: Finished) -> None:
    study, _, result = finished
    test = load_images(DataConfig(source="digits", validation=0.2, test_fraction=0.2, seed=0)).test
    for network in result["networks"]:
        path = study.parent / "study" / "models" / f"{network['name']}.onnx"
        onnx.checker.check_model(onnx.load(path))
        session = onnxruntime.InferenceSession(path)
        # One image at a time, as on a device; the report counted in batches.
        predicted = [int(np.argmax(session.run(None, {"input": image[None]})[0])) for image in test.images]
        correct = int((np.array(predicted) == test.labels).sum())
        assert correct == network["test_correct"]
        assert correct / len(test.labels) == network["test_accuracy"]


def test_the_csv_holds_what_the_terminal_shows(finished: Finished) -> None:
    with (finished[0].parent / "study" / "front.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == [n["name"] for n in finished[2]["networks"]]
    assert [float(row["measured_ms"]) for row in rows] == [n["measured_ms"] for n in finished[2]["networks"]]


def test_the_report_is_one_file_that_asks_no_network(finished: Finished) -> None:
    page = (finished[0].parent / "study" / "report.html").read_text()
    for network in finished[2]["networks"]:
        assert f"{network['measured_ms']:.4f} ms" in page
    assert "Predicted against measured" in page
    assert 'src="http' not in page
    assert "nan" not in page.split("<script")[0]


def test_the_table_keeps_where_each_number_comes_from(finished: Finished) -> None:
    folder = finished[0].parent / "study"
    table = LatencyTable.load(folder / "table.parquet")
    frame = table.to_frame()
    records = read_records(folder / "trials.ndjson")[0]
    trials = {record["trial_id"] for record in records if "event" not in record}
    assert len(frame) > 20
    assert set(frame["runtime"]) == {"onnxruntime"}
    for row in table.rows:
        assert set(row.trial_ids) <= trials
        assert len(row.samples_sha256) == 64
        assert row.throttle in ("none", "seen", "unknown")


def test_a_candidate_is_rebuilt_from_base_weights_and_text(finished: Finished) -> None:
    study, _, result = finished
    folder = study.parent / "study"
    known = json.loads((folder / "space.json").read_text())
    module = build_model("resnet8", num_classes=10, in_channels=1, arguments={"shortcut": "projection"})
    load_weights(module, folder / "base.pt")
    space = PruningSpace.from_record(known["space"])
    network = result["networks"][1]
    rebuilt = rebuild(module, space, known["order"], network["candidate"])
    assert rebuilt.eval()(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    # BN folded: each of its four vectors per channel became one bias.
    exported = onnx.load(folder / "models" / f"{network['name']}.onnx")
    sizes = sum(int(np.prod(t.dims)) for t in exported.graph.initializer)
    assert sizes == network["parameters"]


def test_running_a_finished_study_again_measures_and_evaluates_nothing(finished: Finished, tmp_path: Path) -> None:
    study = copy_of(finished, tmp_path)
    journals = {name: (tmp_path / "study" / name).read_bytes() for name in ("trials.ndjson", "search.ndjson")}
    again = finish(study, tmp_path / "home")
    assert again["networks"] == finished[2]["networks"]
    for name, content in journals.items():
        assert (tmp_path / "study" / name).read_bytes() == content


@pytest.mark.parametrize("name", ["trials.ndjson", "search.ndjson"])
def test_a_damaged_journal_tail_is_cut_kept_aside_reported_and_made_good(
    finished: Finished, tmp_path: Path, name: str
) -> None:
    study = copy_of(finished, tmp_path)
    path = tmp_path / "study" / name
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rfind(b"\n") + 1
    path.write_bytes(whole[: last + 40])
    heard = Heard()
    run_study(study, heard)
    (line,) = [line for line in heard.lines if name in line]
    assert "40 damaged bytes" in line
    records, cut = read_records(path)
    assert cut == 0
    assert path.read_bytes()[:last] == whole[:last]
    assert len(records) == whole.count(b"\n")
    assert [p.read_bytes() for p in path.parent.glob(f"{name}.cut-*")] == [whole[last : last + 40]]


def test_another_study_is_not_written_over(finished: Finished, tmp_path: Path) -> None:
    copy_of(finished, tmp_path)
    other = tmp_path / "other.toml"
    other.write_text(
        TINY.replace('name = "tiny"', 'name = "tiny"\ndirectory = "study"').replace("epochs = 2", "epochs = 3")
    )
    before = (tmp_path / "study" / "study.json").read_bytes()
    with pytest.raises(StudyError, match=r"holds another study: training\.epochs is 2 there, 3 here"):
        run_study(other, Silent())
    assert (tmp_path / "study" / "study.json").read_bytes() == before


def test_the_settings_of_the_result_are_those_of_the_file(finished: Finished) -> None:
    kept = json.loads((finished[0].parent / "study" / "study.json").read_text())
    assert kept["settings"] == load_config(finished[0]).content()


def test_the_device_takes_part_in_the_search_within_its_budget(finished: Finished) -> None:
    folder = finished[0].parent / "study"
    records = read_records(folder / "search.ndjson")[0]
    sent = [probe for record in records if record["kind"] == "sent" for probe in record["probes"]]
    taken = [network for record in records if record["kind"] == "taken" for network in record["networks"]]
    assert 0 < len(sent) <= 4
    assert [one["widths"] for one in taken] == [one["widths"] for one in sent]
    assert all(one["latency_ms"] > 0 and one["peak_bytes"] > 0 for one in taken)
    assert any(f"{len(taken)} networks were measured during the search" in note for note in finished[2]["notes"])


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("constraints", '["latency_ms < 5"]', "is not of the form"),
        ("workers", "1000", "more than the"),
        ("dask", '"tcp://127.0.0.1:9"', "install it with"),
    ],
)
def test_what_a_search_cannot_keep_or_use_is_told_with_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, value: str, text: str
) -> None:
    monkeypatch.setattr("hwloop.study.study.find_spec", lambda name: None)
    study = write_study(tmp_path, TINY.replace("measured = 4", f"measured = 4\n{key} = {value}"))
    line = study.read_text().splitlines().index(f"{key} = {value}") + 1
    with pytest.raises(ConfigError, match=rf"study.toml:{line}: search.{key}: .*{text}"):
        run_study(study, Silent())


@pytest.mark.slow
def test_a_front_member_without_blocks_is_predicted_measured_and_exported_as_what_it_is(tmp_path: Path) -> None:
    # Widths keep all their channels, so that whatever is chosen beside the base lacks some of the three blocks.
    text = TINY.replace("grain = 8", "grain = 8\nminimum_fraction = 1.0").replace("generations = 5", "generations = 1")
    # With the work as an objective the smallest is never dominated, however the device may disturb latencies.
    chosen = 'objectives = ["error", "latency_ms", "macs"]\nmeasured = 8\nnetworks = 1'
    text = text.replace("measured = 4\nnetworks = 2", chosen)
    text = text.replace("[finetune]\nepochs = 1", "[finetune]\nepochs = 0")
    result = finish(write_study(tmp_path, text), tmp_path / "home")
    folder = tmp_path / "study"
    base, smaller = result["networks"]
    removed = [part for part in smaller["candidate"].split() if part.startswith("-")]
    assert 0 < len(removed) <= 3
    assert smaller["measured_low_ms"] <= smaller["measured_ms"] <= smaller["measured_high_ms"]
    assert all(" -layer" in each["text"] for each in json.loads((folder / "holdout.json").read_text())["networks"])

    # The file is the base without these blocks.
    module = build_model("resnet8", num_classes=10, in_channels=1, arguments={"shortcut": "projection"})
    load_weights(module, folder / "base.pt")
    known = json.loads((folder / "space.json").read_text())
    space = PruningSpace.from_record(known["space"])
    rebuilt = rebuild(module, space, known["order"], smaller["candidate"]).eval()
    path = folder / "models" / f"{smaller['name']}.onnx"
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(path).graph.node)
    assert convolutions == 1 + 2 * (3 - len(removed)) + 2  # stem, branches, the two projections
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = onnxruntime.InferenceSession(path).run(None, {"input": images.numpy()})[0]
    with torch.inference_mode():
        np.testing.assert_allclose(found, rebuilt(images).numpy(), atol=1e-4)

    # Its layers were measured, and it is predicted as what it is.
    rules = get_runtime("onnxruntime").fusion
    layers = network_from_onnx(path.read_bytes(), rules=rules)
    assert (smaller["macs"], smaller["parameters"]) == (layers.macs, layers.parameters)
    measured = {row.key for row in LatencyTable.load(folder / "table.parquet").rows}
    assert {layer.key for layer in layers.layers if not OPS[layer.op].view} <= measured
    scalable = open_space(module.eval(), (1, 8, 8), rules, grain=8, minimum_fraction=1.0).scalable
    predictor = NetworkPredictor.load(folder / "predictor.json", scalable)
    predicted = predictor.predict(*space.arrays([space.parse(smaller["candidate"])]), strict=True)
    assert float(predicted.latency_ms[0]) == pytest.approx(smaller["predicted_ms"])
    assert int(predicted.peak_bytes[0]) == smaller["predicted_peak_bytes"]
    assert smaller["predicted_peak_bytes"] <= base["predicted_peak_bytes"]


@pytest.mark.slow
def test_a_study_is_carried_out_in_another_runtime(tmp_path: Path) -> None:
    study = write_study(tmp_path, TINY.replace("[measurement]", '[measurement]\nruntime = "litert"'))
    result = finish(study, tmp_path / "home")
    assert len(result["networks"]) >= 2
    table = LatencyTable.load(tmp_path / "study" / "table.parquet")
    assert table.context is not None
    assert table.context.runtime == "litert"
    assert all(network["measured_ms"] > 0 for network in result["networks"])


@pytest.mark.slow
def test_a_study_is_judged_by_shared_weights(tmp_path: Path) -> None:
    study = write_study(tmp_path, TINY + '[judge]\nfidelity = "shared-weights"\nadaptation_epochs = 1\n')
    result = finish(study, tmp_path / "home")
    assert len(result["networks"]) >= 2
    folder = tmp_path / "study"
    weights = (folder / "shared.pt").read_bytes()
    first = read_records(folder / "search.ndjson")[0][0]
    assert first["context"]["fidelity"] == "shared-weights"
    assert finish(study, tmp_path / "home")["networks"] == result["networks"]
    assert (folder / "shared.pt").read_bytes() == weights
