"""Versions of runtimes, told without importing any."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

from hwloop_agent.installed import installed_versions


class Installed(unittest.TestCase):
    def test_the_names_of_the_metadata_tell(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            prefix = Path(folder, "venv")
            site = prefix / "lib/python3.11/site-packages"
            for name in (
                "onnxruntime-1.23.2.dist-info",
                "ai_edge_litert-2.3.0.dist-info",
                "torch-2.13.0+cpu.dist-info",
                "onnxruntime_extensions-9.dist-info",
                "numpy-2.4.6.dist-info",
                "tvm",
            ):
                (site / name).mkdir(parents=True)
            expected = {"onnxruntime": "1.23.2", "litert": "2.3.0", "torch": "2.13.0+cpu"}
            assert installed_versions(str(prefix / "bin/python")) == expected
            link = Path(folder, "link")
            link.symlink_to(prefix)
            assert installed_versions(str(link / "bin/python3")) == expected
            assert installed_versions(str(Path(folder, "nowhere/bin/python"))) == {}
