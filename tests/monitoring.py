"""The alert rules and dashboards of the chart, and the queries in them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

CHART = Path(__file__).parents[1] / "helm"
RULES = CHART / "rules" / "gankiln.yaml"
DASHBOARDS = sorted((CHART / "dashboards").glob("*.json"))
ALERTS: dict[str, dict[str, Any]] = {
    alert["alert"]: alert
    for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    for alert in group["rules"]
}
VARIABLES = {"$__rate_interval": "1m", "$job_name": ".*", "$instance": ".*"}
"""What Grafana would put in their place."""


def panels(board: dict[str, Any]) -> list[dict[str, Any]]:
    """The panels of a dashboard that show something: all but the rows."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def dashboard_queries() -> list[tuple[str, str]]:
    """Where a query stands, as dashboard/panel, and the query with its variables filled in."""
    found = []
    for path in DASHBOARDS:
        board = json.loads(path.read_text(encoding="utf-8"))
        found += [
            (f"{path.stem}/{panel['title']}", filled(target["expr"]))
            for panel in panels(board)
            for target in panel["targets"]
        ]
        found += [
            (f"{path.stem}/{mark['name']}", filled(mark["target"]["expr"])) for mark in board["annotations"]["list"]
        ]
    return found


def alert_queries() -> list[tuple[str, str]]:
    """The name of each alert behind alert/, and its query."""
    return [(f"alert/{name}", alert["expr"]) for name, alert in ALERTS.items()]


def queries() -> list[tuple[str, str]]:
    """Those of the dashboards and of the alerts."""
    return dashboard_queries() + alert_queries()


def filled(query: str) -> str:
    """`query` with values in place of its variables."""
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


def selectors(query: str) -> list[tuple[str, set[str]]]:
    """The metrics that a query reads, each with the labels it is matched by. Raises ValueError if it does not parse."""
    return [
        (node.name, {matcher.name for matcher in node.matchers.matchers})
        for node in _vectors(promql_parser.parse(query))
    ]


def selector_texts(query: str) -> list[str]:
    """The metrics that a query reads, as selectors that can be asked for by themselves."""
    return [node.prettify() for node in _vectors(promql_parser.parse(query))]


def _vectors(node: Any) -> Iterator[promql_parser.VectorSelector]:
    match node:
        case promql_parser.VectorSelector():
            yield node
        case promql_parser.MatrixSelector():
            yield node.vector_selector
        case promql_parser.BinaryExpr():
            yield from _vectors(node.lhs)
            yield from _vectors(node.rhs)
        case promql_parser.Call():
            for argument in node.args:
                yield from _vectors(argument)
        case (
            promql_parser.AggregateExpr()
            | promql_parser.ParenExpr()
            | promql_parser.SubqueryExpr()
            | promql_parser.UnaryExpr()
        ):
            yield from _vectors(node.expr)
