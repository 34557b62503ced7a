"""`study.toml`: what it may hold, and where in the file a mistake is.

The file is read with `tomllib` and validated by pydantic; every mistake is one `ConfigError` line that names the key,
its line in the file, what was expected, and what is allowed.
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from hwloop.errors import ConfigError

Positive = Annotated[int, Field(ge=1)]
NonNegative = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Seconds = Annotated[float, Field(gt=0, le=600)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class StudySection(_Section):
    """Name, place and seed."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")] = "study"
    directory: str | None = None
    seed: NonNegative = 0


class ModelSection(_Section):
    """The network to prune: a name of the zoo or `package.module:factory`."""

    name: Annotated[str, Field(min_length=1)] = "resnet8"
    arguments: dict[str, Any] = Field(default_factory=dict)
    weights: str | None = None


class DataSection(_Section):
    """Where the images come from and how they are split."""

    source: Literal["digits", "parquet", "folder", "npz"] = "digits"
    train: str | None = None
    test: str | None = None
    image_size: Positive | None = None
    validation: float = Field(default=0.2, gt=0)
    test_fraction: Fraction = 0.2
    mean: list[float] | None = None
    std: list[float] | None = None
    limit: Positive | None = None


class TrainingSection(_Section):
    """How the base network, or a pruned one, is trained."""

    epochs: NonNegative = 20
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    batch_size: Positive = 64
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    augment: bool = False
    flip: bool = False


class FinetuneSection(TrainingSection):
    """How the chosen networks recover."""

    epochs: NonNegative = 10
    learning_rate: Annotated[float, Field(gt=0)] = 0.02


class DeviceSection(_Section):
    """The device that is measured: `local`, or a name of the inventory (`hwloop device list`)."""

    name: Annotated[str, Field(min_length=1)] = "local"
    threads: Positive = 1


class MeasurementSection(_Section):
    """The runtime and how precisely each trial is timed."""

    runtime: str = "onnxruntime"
    processes: Positive = 2
    attempts: Positive = 3
    warmup_s: Seconds = 0.1
    min_s: Seconds = 0.1
    max_s: Seconds = 0.5
    target_relative_interval: Annotated[float, Field(gt=0, lt=0.5)] = 0.03

    @model_validator(mode="after")
    def _ordered(self) -> MeasurementSection:
        if self.max_s < self.min_s:
            raise ValueError("max_s must not be smaller than min_s")
        return self


class TableSection(_Section):
    """What the campaign measures: widths per layer axis, and whole networks."""

    levels: Annotated[int, Field(ge=2)] = 3
    processes: Positive = 1
    calibration_networks: Annotated[int, Field(ge=4)] = 12
    holdout_networks: Annotated[int, Field(ge=4)] = 30


class PruningSection(_Section):
    """The moves, and the images that candidates are judged on."""

    grain: Literal["auto"] | Positive = "auto"
    minimum_fraction: Annotated[float, Field(gt=0, le=1)] = 0.125
    criterion: str = "l1"
    criterion_settings: dict[str, Any] = Field(default_factory=dict)
    criterion_images: Positive = 1024
    recalibration_images: Positive = 500
    validation_images: Positive | None = None


class JudgeSection(_Section):
    """How the error of a candidate is estimated: at which fidelity, and what the training of the others is."""

    fidelity: Literal["recalibrated", "shared-weights", "short-fine-tune", "full-fine-tune"] = "recalibrated"
    adaptation_epochs: Positive = 2
    adaptation_rate: Annotated[float, Field(gt=0)] = 0.03
    adaptation_networks: NonNegative = 2
    short_epochs: Positive = 1
    short_images: Annotated[int, Field(ge=2)] | None = None


class SearchSection(_Section):
    """The algorithm, what it minimises and for how long; and who evaluates, which changes nothing of the result."""

    algorithm: str = "hamp"
    objectives: Annotated[list[str], Field(min_length=1)] = ["error", "latency_ms", "peak_memory_mb"]
    population: Annotated[int, Field(ge=4)] = 24
    generations: Positive = 12
    measured: Positive = 8
    networks: Positive = 5
    constraints: list[str] = []
    device_trials: NonNegative = 16
    workers: Literal["auto"] | Positive = "auto"
    dask: Annotated[str, Field(pattern=r"^[a-z]+://\S+$")] | None = None


class NetAdaptSection(_Section):
    """NetAdapt's budget, steps and short-term fine-tune; `search.generations` bounds its iterations."""

    resource: str = "latency_ms"
    resource_from: Literal["predictor", "device"] = "predictor"
    budget: Fraction = 0.25
    step: Fraction = 0.025
    decay: Annotated[float, Field(gt=0, le=1)] = 0.96
    select: Literal["accuracy", "ratio"] = "accuracy"
    steps: NonNegative = 50
    learning_rate: Annotated[float, Field(gt=0)] = 0.01


class EmoDirSection(_Section):
    """EMO-DIR's parts and the training of its sub-networks; each part is searched as `search` says."""

    parts: list[str] | None = None
    resource: str = "macs"
    images: Positive = 1000
    steps: NonNegative = 60
    learning_rate: Annotated[float, Field(gt=0)] = 0.02
    labels: Annotated[float, Field(ge=0)] = 0.3


class GraphsSection(_Section):
    """A graph network instead of one for images: its data set, its shape, how it is trained.

    What is not given is as the papers have it.
    """

    dataset: Annotated[str, Field(min_length=1)]
    folder: str = "."
    model: Literal["gcn", "gin"] = "gcn"
    hidden: Positive | None = None
    layers: Positive | None = None
    epochs: Positive | None = None
    candidate_epochs: Positive = 30
    ranking: Literal["random-edges-local", "random-edges", "icpg-local", "icpg"] = "random-edges-local"


IMAGE_SECTIONS = ("model", "data", "training", "table", "pruning", "judge", "netadapt", "emo_dir", "finetune")
"""Of a study of a network for images; one of a graph network has `graphs` in their place."""


class StudyConfig(_Section):
    """A whole study file."""

    study: StudySection = StudySection()
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    training: TrainingSection = TrainingSection()
    device: DeviceSection = DeviceSection()
    measurement: MeasurementSection = MeasurementSection()
    table: TableSection = TableSection()
    pruning: PruningSection = PruningSection()
    judge: JudgeSection = JudgeSection()
    search: SearchSection = SearchSection()
    netadapt: NetAdaptSection = NetAdaptSection()
    emo_dir: EmoDirSection = EmoDirSection()
    finetune: FinetuneSection = FinetuneSection()
    graphs: GraphsSection | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> StudyConfig:
        unused = [name for name in IMAGE_SECTIONS if name in self.model_fields_set]
        if self.graphs is not None and unused:
            raise ValueError(f"a study with [graphs] is of a graph network: remove [{unused[0]}], which is of images")
        return self

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides what the study is; its place on disk and its workers are not part of it."""
        content = json.dumps(self.content(), sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def content(self) -> dict[str, Any]:
        """The settings as plain data, without the place on disk and without who evaluates."""
        content = self.model_dump(mode="json", exclude={"study": {"directory"}, "search": {"workers", "dask"}})
        without = ("graphs",) if self.graphs is None else IMAGE_SECTIONS
        return {name: section for name, section in content.items() if name not in without}


def load_config(path: Path) -> StudyConfig:
    """Read and check a study file.

    Raises:
        ConfigError: the file is missing, is no TOML, or has a key that is unknown or of the wrong kind; the text names
            the key and its line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); `hwloop init {path}` writes one") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text (byte {error.start})") from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not TOML: {error}") from error
    try:
        return StudyConfig.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}{_explain(error, text)}") from error


def error_at(path: Path, key: tuple[str, ...], message: str) -> ConfigError:
    """A `ConfigError` for a key whose value only a later stage could judge, with its line."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return ConfigError(f"{path}{_where(text, key)}: {'.'.join(key)}: {message}")


def _explain(error: ValidationError, text: str) -> str:
    first = error.errors()[0]
    key = tuple(str(part) for part in first["loc"] if not str(part).startswith(("literal[", "constrained-")))
    # A union reports one error per member, with the member's type as the last part of the place.
    while key and len(key) > 2:
        key = key[:-1]
    if first["type"] == "extra_forbidden":
        allowed = _allowed(key[:-1])
        return f"{_where(text, key)}: unknown key {'.'.join(key)}; known here: {', '.join(allowed)}"
    got = first.get("input")
    reason = first["msg"].removeprefix("Value error, ")
    shown = f" (got {got!r})" if not isinstance(got, dict) else ""
    if not key:  # about the file as a whole
        return f": {reason}"
    return f"{_where(text, key)}: {'.'.join(key)}: {reason}{shown}"


def _allowed(section: tuple[str, ...]) -> list[str]:
    model: type[BaseModel] = StudyConfig
    for part in section:
        annotation: Any = model.model_fields[part].annotation
        annotation = next((one for one in get_args(annotation) if one is not type(None)), annotation)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return sorted(model.model_fields)


def _where(text: str, key: tuple[str, ...]) -> str:
    """``:LINE`` of a key in the file, or of its section when the key itself is not written there."""
    section_line = 0
    section: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), start=1):
        header = re.match(r"\s*\[\s*([^\]]+?)\s*\]", line)
        if header:
            section = tuple(part.strip().strip("\"'") for part in header.group(1).split("."))
            if section == key:
                return f":{number}"
            if section == key[: len(section)]:
                section_line = number
            continue
        name = re.match(r"\s*([A-Za-z0-9_.\"'-]+)\s*=", line)
        if name:
            parts = tuple(part.strip("\"'") for part in name.group(1).split("."))
            if (section + parts)[: len(key)] == key:
                return f":{number}"
    return f":{section_line}" if section_line else ""
