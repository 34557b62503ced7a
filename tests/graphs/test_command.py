from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from hwloop.cli.main import main
from hwloop.graphs import GraphSet
from hwloop.study.graph_search import GraphSpace

QUICK = ("--epochs", "2", "--hidden", "8", "--processes", "1")


def hwloop(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["hwloop", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture
def made_up(one_graph: GraphSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The made-up graph under the name cora."""
    monkeypatch.setattr("hwloop.graphs.sources.read_planetoid", lambda folder, name: one_graph)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_rounds_are_measured_by_the_agent(
    made_up: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    prune = ("graphs", "prune", "cora", "-o", "run", "--rounds", "2", "--device", "local", *QUICK, "--json", "-")
    assert hwloop(monkeypatch, *prune) == 0
    first = capfd.readouterr()
    result: dict[str, Any] = json.loads(first.out)
    assert [row["round"] for row in result["rounds"]] == [0, 1, 2]
    assert all(row["latency_ms"] > 0 and row["peak_bytes"] > 0 for row in result["rounds"])
    assert any(row["on_front"] for row in result["rounds"])
    assert any("of the weights cut, nothing else" in note for note in result["notes"])
    assert "chosen on the validation split" in first.err
    # Again: nothing is trained or measured once more.
    trials = (made_up / "run" / "trials-local.ndjson").read_bytes()
    assert hwloop(monkeypatch, *prune) == 0
    assert json.loads(capfd.readouterr().out) == result
    assert (made_up / "run" / "trials-local.ndjson").read_bytes() == trials


def test_seeds_give_deviations(
    made_up: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ("graphs", "prune", "cora", "-o", "run", "--rounds", "1", "--seeds", "0,1", *QUICK)
    assert hwloop(monkeypatch, *arguments, "--json", "result.json") == 0
    result = json.loads((made_up / "result.json").read_text())
    assert result["within_one_sd_to_round"] in (0, 1)
    assert result["rounds"][1]["test_sd"] >= 0
    assert "within one standard deviation" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("cora", "--method", "magic"), "unknown method 'magic'; known are icpg, icpg-local"),
        (("cora", "--model", "mlp"), "it can be gcn, gin, gat"),
        (("cora", "--seeds", "0,0"), "give different numbers"),
        (("cora", "--seeds", "a"), "give whole numbers"),
        (("cora", "--edge-rate", "1"), "the rate of edges is 1.0"),
        (("pubmed",), "pubmed: no data set and no file"),
        (("cora", "--model", "gat", "--hidden", "20"), "multiple of 8"),
    ],
)
def test_bad_options_are_one_line(
    arguments: tuple[str, ...],
    said: str,
    made_up: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert hwloop(monkeypatch, "graphs", "prune", *arguments, "-o", "run") == 2
    text = capfd.readouterr().err
    assert said in text
    assert "Traceback" not in text


def test_a_search_takes_only_what_ranks_the_edges_of_any_graph(
    made_up: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert hwloop(monkeypatch, "graphs", "search", "cora", "-o", "run", "--ranking", "ugs") == 2
    said = " ".join(capfd.readouterr().err.split())
    assert "'ugs' ranks no edges of any graph; those that do are icpg, icpg-local, random-edges" in said


def test_without_the_extra_the_command_says_what_to_install(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "graphs.pt")
    for data in ("mnist-superpixels", str(tmp_path / "graphs.pt")):
        script = (
            "import sys\nsys.modules['torch_geometric'] = sys.modules['skimage'] = None\n"
            "import hwloop, hwloop.graphs\nfrom hwloop.cli.main import main\n"
            f"sys.argv = ['hwloop', 'graphs', 'prune', {data!r}, '-o', {str(tmp_path / 'run')!r}]\nmain()"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert "pip install 'hwloop[graphs]'" in done.stderr


@pytest.mark.slow
def test_a_search_ends_with_a_measured_front(
    made_up: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(GraphSpace, "of", lambda hidden: GraphSpace((4, hidden), (50, 100)))
    search = ("graphs", "search", "cora", "-o", "run", "--population", "4", "--candidate-epochs", "1", *QUICK)
    assert hwloop(monkeypatch, *search, "--generations", "1") == 0
    before = (made_up / "run" / "search.ndjson").read_bytes()
    assert hwloop(monkeypatch, *search, "--generations", "3", "--json", "front.json") == 0
    assert (made_up / "run" / "search.ndjson").read_bytes().startswith(before), "evaluated again"
    result = json.loads((made_up / "front.json").read_text())
    assert result["evaluated"] > 4
    assert result["base"] == "hidden=8 edges=100 weights=100"
    assert all(row["latency_ms"] > 0 for row in result["front"])
    out = capfd.readouterr().out
    assert "candidates evaluated on the validation split" in out
    assert "…" not in out, "a column was cut"
    page = (made_up / "run" / "report.html").read_text()
    base = next(row for row in result["front"] if row["candidate"] == result["base"])
    assert f"{base['latency_ms']:.4f} ms" in page
    assert result["conditions"]["device"] in page
    assert "<script src=" not in page, "asks the network"
    assert hwloop(monkeypatch, *search, "--seed", "1") == 2
    assert "holds a run with another seed" in capfd.readouterr().err


STUDY = """
[study]
seed = 0
[graphs]
dataset = "cora"
hidden = 8
epochs = 2
candidate_epochs = 1
ranking = "icpg-local"
[measurement]
processes = 1
[search]
population = 4
generations = 1
"""


@pytest.mark.slow
def test_a_study_file_of_a_graph_network(
    made_up: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(GraphSpace, "of", lambda hidden: GraphSpace((4, hidden), (50, 100)))
    (made_up / "study.toml").write_text(STUDY)
    assert hwloop(monkeypatch, "run", "--json") == 0
    result = json.loads(capfd.readouterr().out)
    assert result["front"] == json.loads((made_up / "study" / "front.json").read_text())["front"]
    assert all(row["latency_ms"] > 0 for row in result["front"])
    assert (made_up / "study" / "report.html").read_text().count("<tr>") == 1 + len(result["front"])


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("[model]\nname = 'resnet8'\n", "remove [model], which is of images"),
        ("[graphs.more]\n", "unknown key graphs.more; known here: candidate_epochs, dataset"),
    ],
)
def test_a_study_file_with_sections_that_do_not_belong(
    more: str, said: str, made_up: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (made_up / "study.toml").write_text(STUDY + more)
    assert hwloop(monkeypatch, "run") == 2
    assert said in capfd.readouterr().err


def test_a_study_of_a_graph_network_needs_torch(
    made_up: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (made_up / "study.toml").write_text(STUDY.replace("processes = 1", "runtime = 'onnxruntime'"))
    assert hwloop(monkeypatch, "run") == 2
    assert "no sparse message passing" in capfd.readouterr().err
