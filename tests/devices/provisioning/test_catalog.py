"""Which packages a runtime is on which board."""

from __future__ import annotations

import pytest

from hwloop.devices.provisioning import Target, Wanted, parse_wanted, requirements_for
from hwloop.errors import UserError


def board(python: tuple[int, int], machine: str = "aarch64", glibc: tuple[int, int] = (2, 36)) -> Target:
    return Target(python, f"{python[0]}.{python[1]}.2", machine, glibc)


def packages(text: str, target: Target) -> tuple[str, ...]:
    return requirements_for(parse_wanted([text])[0], target)


def test_names_and_versions_are_read():
    assert parse_wanted(["onnxruntime==1.23.2", "LiteRT"]) == (Wanted("litert"), Wanted("onnxruntime", "1.23.2"))
    assert parse_wanted(["tflite-runtime==2.14.0"]) == (Wanted("litert", "2.14.0", "tflite-runtime"),)
    assert parse_wanted(["tvm"])[0].text == "tvm"
    again = parse_wanted(["ai_edge_litert==2.3.0"])
    assert parse_wanted([again[0].text]) == again


@pytest.mark.parametrize(
    "texts",
    [
        ["caffe"],
        ["onnxruntime>=1"],
        ["onnxruntime=="],
        ["torch==newest"],
        ["-e evil"],
        [""],
        ["litert", "tflite-runtime"],
        ["x; rm -rf"],
    ],
)
def test_what_is_no_runtime_is_refused(texts):
    with pytest.raises(UserError):
        parse_wanted(texts)


def test_each_board_gets_what_is_built_for_it():
    assert packages("onnxruntime==1.23.2", board((3, 11))) == ("onnxruntime==1.23.2",)
    assert packages("litert", board((3, 11))) == ("ai-edge-litert",)
    assert packages("torch", board((3, 11))) == ("torch", "torch<2.11", "numpy")  # newer ones need CUDA on Arm too
    assert packages("torch==2.12.0", board((3, 11))) == ("torch==2.12.0", "numpy")
    assert packages("torch==2.2.1+cpu", board((3, 11))) == ("torch==2.2.1+cpu", "numpy<2")
    assert packages("torch", board((3, 11), "x86_64")) == ("torch", "numpy")
    assert packages("tvm==0.27.0", board((3, 10))) == ("apache-tvm==0.27.0",)
    # JetPack 5; numpy 2 kills tflite-runtime on import.
    assert packages("litert", board((3, 8), glibc=(2, 31))) == ("tflite-runtime", "numpy<2")
    assert packages("litert", board((3, 11), "armv7l")) == ("tflite-runtime", "numpy<2")
    assert packages("tflite-runtime", board((3, 11))) == ("tflite-runtime", "numpy<2")


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("onnxruntime", board((3, 11), "armv7l")),
        ("torch", board((3, 11), "armv7l")),
        ("tvm", board((3, 8))),
        ("litert", board((3, 12), "armv7l")),
        ("tflite-runtime", board((3, 12))),
        ("ai-edge-litert", board((3, 8))),
    ],
)
def test_what_nobody_builds_is_said_in_one_line_before_any_download(text, target):
    with pytest.raises(UserError, match="has no wheel for Python") as refusal:
        packages(text, target)
    assert "\n" not in str(refusal.value)
