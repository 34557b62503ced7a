"""One search from `study.toml` to a measured front."""

from hwloop.study.config import StudyConfig, load_config
from hwloop.study.result import Holdout, NetworkResult, StudyResult
from hwloop.study.study import run_study

__all__ = ["Holdout", "NetworkResult", "StudyConfig", "StudyResult", "load_config", "run_study"]
