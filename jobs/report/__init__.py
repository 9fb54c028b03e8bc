"""What a run leaves for people and for scripts: report.json, report.html, picture grids, curves."""

from jobs.report.html import render, write_report
from jobs.report.model import MetricRow, Report, ReportFacts, Verdict

__all__ = ["MetricRow", "Report", "ReportFacts", "Verdict", "render", "write_report"]
