"""Programs of ATen calls: read from a `.calls` file, and called one by one with a clock.

`hwloop.runtimes.torch_calls` describes the format. A file computes and does nothing else: it names ATen operators, and
none that takes a file's name can be called, since only a few texts may be arguments.
"""

from __future__ import annotations

import json
import operator
import time
from typing import Any, Dict, List

from hwloop_agent.runtimes import InvalidArtifactError, UnsupportedError

MAGIC = b"hwloop calls 1\n"
DTYPES = ("float32", "bfloat16", "float16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")
KINDS = {("dtype", name) for name in DTYPES} | {
    ("memory_format", name) for name in ("contiguous_format", "channels_last", "preserve_format")
}
TEXTS = ("none", "tanh", "amax", "constant", "reflect", "replicate", "circular")


def read(torch: Any, path: str) -> Any:
    """Return the program of a file as a module of torch.fx: tensors in, a tuple out.

    Raises:
        InvalidArtifactError: the file is damaged, or passes what it may not.
        UnsupportedError: this torch has not one of its operators.
    """
    with open(path, "rb") as file:
        data = file.read()
    end = data.find(b"\n", len(MAGIC))
    if not data.startswith(MAGIC) or end < 0:
        raise InvalidArtifactError("not a program of ATen calls")
    try:
        head = json.loads(data[len(MAGIC) : end])
        return _build(torch, head, bytearray(data[end + 1 :]))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InvalidArtifactError(f"the program of ATen calls is damaged: {error}") from error


def _build(torch: Any, head: Dict[str, Any], data: bytearray) -> Any:
    root, graph = torch.nn.Module(), torch.fx.Graph()
    values = [graph.placeholder(name) for name in head["inputs"]]
    tensors = []
    for index, one in enumerate(head["tensors"]):
        name = f"tensor_{index}"
        root.register_buffer(name, _tensor(torch, one, data))
        tensors.append(graph.get_attr(name))

    def argument(given: Any) -> Any:
        if isinstance(given, list):
            return [argument(one) for one in given]
        if isinstance(given, str) and given not in TEXTS:
            raise ValueError(f"the text {given:.64} is not allowed")
        if not isinstance(given, dict):
            return given
        ((kind, what),) = given.items()
        if (kind, what) in KINDS:
            return getattr(torch, what)
        return "cpu" if kind == "device" else {"value": values, "tensor": tensors}[kind][what]

    for call in head["calls"]:
        target = operator.getitem if call["op"] == "getitem" else _operator(torch, call["op"])
        keywords = {name: argument(one) for name, one in call.get("kwargs", {}).items()}
        node = graph.call_function(target, tuple(argument(one) for one in call["args"]), keywords)
        node.meta["label"] = call.get("name", node.name)
        values.append(node)
    graph.output(tuple(argument(one) for one in head["outputs"]))
    return torch.fx.GraphModule(root, graph)


def _tensor(torch: Any, one: Dict[str, Any], data: bytearray) -> Any:
    if one["dtype"] not in DTYPES:
        raise ValueError("tensors are of " + " ".join(DTYPES))
    count = 1
    for size in one["shape"]:
        count *= size
    dtype = getattr(torch, one["dtype"])
    if not count:
        return torch.empty(one["shape"], dtype=dtype)
    tensor = torch.frombuffer(data, dtype=dtype, count=count, offset=one["offset"]).clone().reshape(one["shape"])
    return tensor.contiguous(memory_format=torch.channels_last) if one.get("channels_last") else tensor


def _operator(torch: Any, name: str) -> Any:
    packet, _, overload = name.partition(".")
    found = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
    if not isinstance(found, torch._ops.OpOverload):
        raise UnsupportedError(f"torch {torch.__version__} has no operator aten.{name:.64}")
    return found


class TimedCalls:
    """A program's operations, called one by one with a clock between them."""

    def __init__(self, torch: Any, graph: Any, feed: List[Any]) -> None:
        self._values: Dict[Any, Any] = {}
        self._map = torch.fx.node.map_arg
        self._steps: List[Any] = []
        self._output: Any = None
        self.runs = 0
        last = {used: node for node in graph.graph.nodes for used in node.all_input_nodes}
        inputs = iter(feed)
        for node in graph.graph.nodes:
            if node.op == "placeholder":
                self._values[node] = next(inputs)
            elif node.op == "get_attr":
                self._values[node] = getattr(graph, node.target)
            elif node.op == "call_function":
                done = [used for used in node.all_input_nodes if used.op == "call_function" and last[used] is node]
                self._steps.append((node, done))
            else:
                (self._output,) = node.args
        self._ns = [0] * len(self._steps)

    def run(self) -> Any:
        """Do one inference; return the outputs."""
        values, fill, clock, spent = self._values, self._map, time.perf_counter_ns, self._ns
        for index, (node, done) in enumerate(self._steps):
            args, kwargs = fill(node.args, values.__getitem__), fill(node.kwargs, values.__getitem__)
            began = clock()
            result = node.target(*args, **kwargs)
            spent[index] += clock() - began
            values[node] = result
            for used in done:
                del values[used]
        self.runs += 1
        return fill(self._output, values.__getitem__)

    def profile(self) -> Dict[str, Any]:
        """Return the rows of a profile; an operation with a weight has the path of its module as its name."""
        rows = [
            {
                "name": node.meta["label"],
                "op": "aten::" + getattr(node.target, "__name__", "").split(".")[0],
                "ns": round(spent / max(self.runs, 1), 1),
                "calls": 1,
            }
            for (node, _), spent in zip(self._steps, self._ns)
        ]
        return {"method": "a clock around every ATen call, mean", "runs": self.runs, "rows": rows}
