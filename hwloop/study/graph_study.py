"""A study of a graph network from its file: `[graphs]` stands in the place of the sections for images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hwloop.devices import Inventory
from hwloop.errors import UserError
from hwloop.graphs import Plan, open_graphs, usual_network, usual_recipe
from hwloop.measurement import Bench, TrialStore
from hwloop.progress import Progress
from hwloop.runtimes import get_runtime
from hwloop.study.config import GraphsSection, StudyConfig, error_at
from hwloop.study.device import check_sensors, plan_of
from hwloop.study.directory import StudyDirectory
from hwloop.study.graph_search import SearchPlan, search_graphs


def run_graph_study(
    config: StudyConfig, graphs: GraphsSection, path: Path, progress: Progress
) -> tuple[dict[str, Any], Path]:
    """Carry out a study of a graph network, or what is left of it.

    Args:
        config: the study's settings.
        graphs: their section for graphs.
        path: the study file.
        progress: is told what happens and how far it is.

    Returns:
        What `front.json` holds (see `hwloop.study.graph_search`), and the study directory.

    Raises:
        UserError: a setting or the data cannot be used; another study is in the directory.
        DeviceError: the device was lost for good; everything measured is kept.
    """
    section = config.measurement
    # onnxruntime is what networks for images are measured with, unless the file says so.
    name = section.runtime if "runtime" in section.model_fields_set else "torch"
    if get_runtime(name).name != "torch":
        raise error_at(path, ("measurement", "runtime"), f"{name} has no sparse message passing here; use torch")
    try:
        device = Inventory.find(path.parent).get(config.device.name)
    except UserError as error:
        raise error_at(path, ("device", "name"), str(error)) from error
    root = path.parent / (config.study.directory or path.stem)
    with StudyDirectory(root, config, path.read_text(encoding="utf-8")) as study:
        data = open_graphs(graphs.dataset, path.parent / graphs.folder, study.path("cache"), progress)
        recipe = usual_recipe(data)
        plan = Plan(
            usual_network(data, graphs.model, graphs.hidden, graphs.layers),
            replace(recipe, epochs=graphs.epochs or recipe.epochs),
            seed=config.study.seed,
        )
        search = config.search
        wanted = SearchPlan(
            tuple(search.objectives),
            search.algorithm,
            search.population,
            search.generations,
            graphs.candidate_epochs,
            graphs.ranking,
        )
        with TrialStore(study.path("trials.ndjson")) as store:
            bench = Bench(device, f"study-{config.fingerprint[:16]}", store, plan_of(config), progress)
            identity = bench.identify(study.path("device.json"))
            check_sensors(config, identity)
            runtime = get_runtime(name).for_device(identity.facts)
            progress.say(f"measured on {identity.cpu}")
            return search_graphs(data, plan, wanted, root, runtime, bench, identity.cpu, progress), root
