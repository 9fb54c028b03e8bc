"""What a run leaves for people and for scripts: report.json, report.html, picture grids, curves."""

from jobs.report.html import render, write_report
from jobs.report.model import MetricRow, Nearest, Report, ReportFacts, Verdict
from jobs.report.shown import write_nearest

__all__ = ["MetricRow", "Nearest", "Report", "ReportFacts", "Verdict", "render", "write_nearest", "write_report"]
