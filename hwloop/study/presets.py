"""The commented `study.toml` that `hwloop init` writes, for a few ready-made studies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template

from hwloop.errors import ConfigError

_TEMPLATE = Template("""\
# A hwloop study: from a network and its data to pruned networks that were measured on a device.
# `hwloop run` carries it out; run it again at any time and it goes on where it stopped.
# Paths are relative to this file. Keys that are left out have the values shown here.

[study]
name = "$name"
# directory = "$name"                # results; default: a folder of this file's name beside it
seed = 0                             # of everything random: splits, training, sampling, search

[model]
# lenet5, resnet8, resnet20, resnet32, resnet44, resnet56, resnet110, vgg16_bn, or "package.module:factory"
name = "$model"
arguments = $arguments
$weights
[data]
$data
validation = $validation             # held out of the training images for the search (a fraction, or a count)

[training]                           # of the base network; with weights and epochs = 0 it is taken as it is
epochs = $epochs
learning_rate = $learning_rate
batch_size = $batch_size
weight_decay = 5e-4
augment = $augment                   # random crops
flip = $augment                      # random mirror images; not for digits or letters

[device]
name = "local"                       # this machine, or a name that `hwloop device list` shows
threads = 1                          # of the runtime; more than one core is only fair when nothing else runs

[measurement]
runtime = "onnxruntime"
processes = 2                        # fresh processes per network of the front; the exported ones get at least 4
attempts = 3                         # a trial under bad conditions (a busy core, a changed clock) is tried again
warmup_s = $warmup_s
min_s = $min_s                       # time at least this long …
max_s = $max_s                       # … and at most this long,
target_relative_interval = $target   # until the interval of the median is this narrow

[pruning]
grain = "auto"                       # step of the widths: learned from the device, or a number
minimum_fraction = 0.125             # no layer is cut below this part of its width
criterion = "l1"                     # which channels stay longest: l1, l2, fpgm, taylor, clad, …
recalibration_images = $recalibration # batch-norm statistics are re-estimated on so many training images

[judge]
# recalibrated: batch-norm statistics only. shared-weights: the same, after weights were trained once that all
# candidates share; dearer at the start, and it tells small networks apart where the first is near chance.
# short-fine-tune, full-fine-tune: every candidate is trained. `hwloop pruning validate-proxy` compares them.
fidelity = "$fidelity"
adaptation_epochs = $adaptation_epochs                # of the shared weights; [training] has their other settings
adaptation_rate = $adaptation_rate
adaptation_networks = 2              # random candidates per step, besides the smallest and the full network
short_epochs = 1                     # of short-fine-tune; [finetune] has its other settings, and full-fine-tune's

[table]
levels = 3                           # widths measured per axis of each layer; between them it is interpolated
processes = 1                        # fresh processes per layer
calibration_networks = $calibration  # whole networks that correct the sum of layers
holdout_networks = 30                # whole networks that the predictor is judged on and never sees

[search]
algorithm = "hamp"                   # also: nsga2, nsga3, sms-emoa, moead, gde3, random, uniform
objectives = ["error", "latency_ms", "peak_memory_mb"]   # also: energy_mj, parameters, macs
population = $population
generations = $generations
constraints = []                     # such as "latency_ms <= 5" or "peak_memory_mb <= 64"
device_trials = 16                   # so many networks are measured during the search; its predictor learns from them
measured = 8                         # so many networks of the front are measured on the device
networks = 5                         # so many of them are fine-tuned, exported and reported
workers = "auto"                     # processes that evaluate; or dask = "tcp://host:8786"

[finetune]
epochs = $finetune_epochs
learning_rate = $finetune_rate
batch_size = $batch_size
weight_decay = 5e-4
augment = $augment
flip = $augment
""")

_COMMON = {
    "arguments": "{}",
    "weights": "",
    "validation": "0.2",
    "augment": "false",
    "warmup_s": "0.1",
    "min_s": "0.1",
    "max_s": "0.4",
    "target": "0.03",
    "recalibration": "500",
    "fidelity": "recalibrated",
    "adaptation_epochs": "2",
    "adaptation_rate": "0.1",
    "calibration": "12",
    "batch_size": "64",
}

PRESETS: Mapping[str, Mapping[str, str]] = {
    "digits": {
        **_COMMON,
        "model": "resnet8",
        "arguments": '{ shortcut = "projection" }   # arguments of the factory',
        "data": 'source = "digits"                    # digits, parquet, folder or npz\nimage_size = 16',
        "epochs": "15",
        "learning_rate": "0.1",
        "population": "24",
        "generations": "10",
        "finetune_epochs": "5",
        "finetune_rate": "0.02",
    },
    "mnist": {
        **_COMMON,
        "model": "lenet5",
        "data": 'source = "parquet"\ntrain = "$folder/mnist-train.parquet"\ntest = "$folder/mnist-test.parquet"',
        "validation": "5000",
        "epochs": "10",
        "learning_rate": "0.05",
        "batch_size": "128",
        "population": "24",
        "generations": "12",
        "finetune_epochs": "3",
        "finetune_rate": "0.02",
    },
    "cifar10": {
        **_COMMON,
        "model": "resnet20",
        "weights": '# weights = "resnet20.pt"           # a state_dict to start from\n',
        "data": 'source = "parquet"\ntrain = "$folder/cifar10-train.parquet"\ntest = "$folder/cifar10-test.parquet"',
        "validation": "5000",
        "augment": "true",
        "warmup_s": "0.3",
        "min_s": "0.3",
        "epochs": "40",
        "learning_rate": "0.1",
        "batch_size": "128",
        "calibration": "24",
        "fidelity": "shared-weights",
        "adaptation_rate": "0.03",
        "population": "32",
        "generations": "30",
        "finetune_epochs": "6",
        "finetune_rate": "0.03",
    },
}


def study_text(preset: str, *, name: str, folder: Path | None = None) -> str:
    """The text of a study file.

    Args:
        preset: one of `PRESETS`.
        name: of the study.
        folder: where the preset's data files lie; the presets of real data need it.

    Raises:
        ConfigError: there is no such preset, or it needs a folder of data.
    """
    if preset not in PRESETS:
        raise ConfigError(f"there is no preset {preset!r}; known: {', '.join(PRESETS)}")
    values = dict(PRESETS[preset])
    if "$folder" in values["data"]:
        if folder is None:
            raise ConfigError(f"the preset {preset} needs the folder of its data: --data FOLDER")
        values["data"] = Template(values["data"]).substitute(folder=folder.as_posix())
    return _TEMPLATE.substitute(values, name=name)
