"""PyTorch on the CPU: programs of ATen calls, eager or compiled on the device."""

from __future__ import annotations

import os
import shutil
import time
from typing import Any, Callable, Dict, List

from hwloop_agent.heap import keep_freed_memory
from hwloop_agent.runtimes import Output, Runtime, UnsupportedError

CHOICES = {
    "mode": ("eager", "compiled"),
    "layout": ("contiguous", "channels_last"),
    "dtype": ("float32", "bfloat16"),
}
COMPILERS = ("g++", "clang++", "c++")
CACHE = "torchinductor"


class TorchRuntime(Runtime):
    """See `Runtime`.

    Options: `mode` (`eager`, the default, `compiled`), and of the inputs, as the program was exported for them,
    `layout` (`contiguous`, the default, `channels_last`: those of four dimensions) and `dtype` (`float32`, the
    default, `bfloat16`).
    """

    name = "torch"

    def prepare(self, options: Dict[str, Any]) -> None:
        """See `Runtime.prepare`; torch's compiler takes its folder from the environment."""
        unknown = sorted(set(options) - set(CHOICES))
        if unknown:
            raise UnsupportedError("torch has no option " + ", ".join(unknown))
        for name, values in CHOICES.items():
            if options.get(name, values[0]) not in values:
                raise UnsupportedError("{} is one of {}".format(name, " ".join(values)))
        self._chosen = {name: options.get(name, values[0]) for name, values in CHOICES.items()}
        self._compiler = ""
        self._profiling = False
        if self._chosen["mode"] == "compiled":
            self._compiler = find_compiler()
            if not self._compiler:
                raise UnsupportedError("torch compiles with a C++ compiler, and none is here: " + " ".join(COMPILERS))
            folder = os.path.join(os.getcwd(), CACHE)  # the session's own, private
            os.makedirs(folder, exist_ok=True)
            # One compiler at a time, in this process' own group: a worker that is killed leaves none behind.
            os.environ.update(
                CXX=self._compiler, TORCHINDUCTOR_CACHE_DIR=folder, TORCHINDUCTOR_COMPILE_THREADS="1", TMPDIR=folder
            )

    def import_(self) -> None:
        """See `Runtime.import_`."""
        import torch

        # Not before the runtime: this imports numpy, whose import belongs to this phase too.
        from hwloop_agent.runtimes import inputs

        self._torch: Any = torch
        self._draw, self._describe = inputs.draw, inputs.describe
        if getattr(self, "_compiler", ""):
            import torch._inductor.compile_fx

    def version(self) -> str:
        """See `Runtime.version`."""
        return str(self._torch.__version__)

    def about(self) -> Dict[str, Any]:
        """See `Runtime.about`."""
        return {"mkldnn": self._torch.backends.mkldnn.is_available(), "compiler": find_compiler()}

    def try_out(self) -> bool:
        """See `Runtime.try_out`."""
        torch = self._torch
        torch.set_num_threads(1)
        with torch.inference_mode():
            torch.ops.aten.conv2d.default(torch.ones(1, 4, 4, 4), torch.ones(4, 4, 1, 1)).sum().item()
        return True

    def load(self, path: str, inputs: List[Dict[str, Any]], threads: int, options: Dict[str, Any]) -> None:
        """See `Runtime.load`; what is compiled is compiled here."""
        torch, chosen = self._torch, self._chosen
        torch.set_num_threads(threads)
        if torch.get_num_interop_threads() != 1:
            torch.set_num_interop_threads(1)
        self._inference = torch.inference_mode()
        self._inference.__enter__()  # as long as this object lives
        from hwloop_agent.runtimes import torch_calls

        graph = torch_calls.read(torch, path)
        names = [node.target for node in graph.graph.nodes if node.op == "placeholder"]
        given = {one["name"]: one for one in inputs}
        if set(names) != set(given):
            raise UnsupportedError(f"the program's inputs are {names}, the spec feeds {sorted(given)}")
        self._feed = [self._tensor(given[name]) for name in names]
        self._graph, self._run, compiling_s = graph, graph.forward, None
        kept = keep_freed_memory()  # from here on: what loading needed for a moment goes back to the system
        began = time.perf_counter()
        if chosen["mode"] == "compiled":
            self._run = compile_graph(torch, graph)
        self._first()
        if chosen["mode"] == "compiled":
            compiling_s = round(time.perf_counter() - began, 3)
        self._settings = {
            **chosen,
            "threads": torch.get_num_threads(),
            "inter_op_threads": torch.get_num_interop_threads(),
            "inference_mode": True,
            "freed_memory_kept": kept,
            "mkldnn": torch.backends.mkldnn.is_available(),
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
            "compiler": self._compiler,
            "compiling_s": compiling_s,
        }

    def _tensor(self, spec: Dict[str, Any]) -> Any:
        torch = self._torch
        tensor = torch.from_numpy(self._draw(spec))
        if self._chosen["dtype"] != "float32" and tensor.is_floating_point():
            tensor = tensor.to(getattr(torch, self._chosen["dtype"]))
        if self._chosen["layout"] == "channels_last" and tensor.dim() == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor

    def _first(self) -> None:
        """Run once: what torch cannot do, it says now.

        Raises:
            UnsupportedError: with torch's own words.
        """
        try:
            self._run(*self._feed)
        except (RuntimeError, NotImplementedError) as error:
            if "memory" in str(error) and "alloc" in str(error):
                raise
            words = "{}: {}".format(type(error).__name__, " ".join(str(error).split())[:300])
            raise UnsupportedError(words) from error

    def settings(self) -> Dict[str, Any]:
        """See `Runtime.settings`."""
        return self._settings

    def runner(self) -> Callable[[], object]:
        """See `Runtime.runner`; a profiled trial calls the operations one by one."""
        if self._profiling:
            from hwloop_agent.runtimes import torch_calls

            self._timed = torch_calls.TimedCalls(self._torch, self._graph, self._feed)
            return self._timed.run
        run, feed = self._run, self._feed
        if len(feed) == 1:
            (only,) = feed
            return lambda: run(only)
        return lambda: run(*feed)

    def start_profile(self, folder: str) -> None:
        """See `Runtime.start_profile`."""
        if self._chosen["mode"] == "compiled":
            raise UnsupportedError("compiled torch programs have no profile: their operations are fused")
        self._profiling = True

    def profile(self) -> Dict[str, Any]:
        """See `Runtime.profile`."""
        return self._timed.profile()

    def outputs(self) -> List[Output]:
        """See `Runtime.outputs`."""
        results = self._run(*self._feed)
        named = [(f"output_{index}", one) for index, one in enumerate(results)]
        if len(named) == 1:
            named = [("output", results[0])]
        found = []
        for name, one in named:
            if isinstance(one, self._torch.Tensor) and one.is_floating_point():
                found.append(self._describe(name, one.detach().to(self._torch.float32).contiguous().numpy()))
        return [output for output in found if output is not None]


def find_compiler() -> str:
    """Return the path of a C++ compiler, or ""."""
    return next((path for path in map(shutil.which, COMPILERS) if path), "")


def compile_graph(torch: Any, graph: Any) -> Any:
    """Return the compiled program, its weights frozen in the compiler's own layout; it compiles at its first call."""
    import torch._inductor.config as settings

    settings.freezing = True
    return torch.compile(graph, fullgraph=True, dynamic=False)
