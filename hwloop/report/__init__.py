"""The report of a study."""

from hwloop.report.html import write_report

__all__ = ["write_report"]
