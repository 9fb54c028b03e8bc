"""helm/README.md, made from helm/values.yaml: a key is described by the comment above it that begins with `# --`.

python -m tests.chart_readme
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

CHART = Path(__file__).parents[1] / "helm"
MARK = "# -- "
HEAD = """# The chart

```sh
helm install gankiln ./helm --set store.url=s3://bucket/prefix --set store.existingSecret=NAME
```

How to install, upgrade and care for it: [OPERATING.md](OPERATING.md). At an alert: [RUNBOOKS.md](RUNBOOKS.md).
Written by `make reference` from values.yaml; do not edit by hand.

| value | default | meaning |
| --- | --- | --- |
"""


class Value(NamedTuple):
    """One documented value: its dotted path, its default, and what its comment says."""

    path: str
    default: object
    meaning: str


def documented(text: str) -> list[Value]:
    """The values of a values.yaml in their order. Raises ValueError at one that no comment describes."""
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    return list(_walk(root, text.splitlines(), ()))


def render(text: str) -> str:
    """The README for the text of a values.yaml."""
    rows = [
        f"| `{value.path}` | `{json.dumps(value.default)}` | {value.meaning.replace('|', chr(92) + '|')} |"
        for value in documented(text)
    ]
    return HEAD + "\n".join(rows) + "\n"


def _walk(mapping: yaml.MappingNode, lines: list[str], above: tuple[str, ...]) -> Iterator[Value]:
    for key, value in mapping.value:
        path = (*above, key.value)
        if meaning := _comment(lines, key.start_mark.line):
            yield Value(".".join(path), yaml.safe_load(yaml.serialize(value)), meaning)
        elif isinstance(value, yaml.MappingNode) and value.value:
            yield from _walk(value, lines, path)
        else:
            raise ValueError(f"values.yaml: {'.'.join(path)} has no comment that begins with '{MARK.strip()}'")


def _comment(lines: list[str], line: int) -> str:
    """What the comment directly above `line` says, from its mark on."""
    found: list[str] = []
    for text in reversed(lines[:line]):
        stripped = text.strip()
        if not stripped.startswith("#"):
            break
        if stripped.startswith(MARK):
            return " ".join([stripped.removeprefix(MARK), *found])
        found.insert(0, stripped.removeprefix("#").strip())
    return ""


if __name__ == "__main__":
    (CHART / "README.md").write_text(render((CHART / "values.yaml").read_text(encoding="utf-8")), encoding="utf-8")
