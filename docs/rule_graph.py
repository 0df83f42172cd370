"""Write the rule graph into README.md, as `snakemake --rulegraph mermaid-js` draws it:

    python docs/rule_graph.py

A test compares. Of that graph the edges to `all` are left out (it asks for everything by name), and
those that a longer way implies.
"""

import re
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
MARK = re.compile(r"(?<=<!-- rule graph -->\n).*?(?=<!-- /rule graph -->)", re.DOTALL)


def drawn() -> str:
    """What Snakemake says of the default configuration."""
    command = [sys.executable, "-m", "snakemake", "--rulegraph", "mermaid-js", "--quiet", "all"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    return done.stdout


def edges(graph: str) -> list[tuple[str, str]]:
    """(earlier rule, later rule), sorted, without `all` and without what follows from others."""
    names = dict(re.findall(r"^\s*(id\d+)\[(\w+)\]$", graph, re.MULTILINE))
    pairs = re.findall(r"^\s*(id\d+) --> (id\d+)$", graph, re.MULTILINE)
    direct = {(names[a], names[b]) for a, b in pairs if "all" not in (names[a], names[b])}
    after: dict[str, set[str]] = {}
    for earlier, later in direct:
        after.setdefault(earlier, set()).add(later)

    def reaches(start: str, end: str) -> bool:
        return start == end or any(reaches(one, end) for one in after.get(start, ()))

    return sorted((a, b) for a, b in direct if not any(reaches(c, b) for c in after[a] if c != b))


def figure(graph: str) -> str:
    """The graph as a Mermaid block of Markdown."""
    lines = [f"    {earlier} --> {later}" for earlier, later in edges(graph)]
    return "\n".join(["```mermaid", "flowchart LR", *lines, "```", ""])


def with_figure(text: str, graph: str) -> str:
    """README.md's text with the graph in its place."""
    return MARK.sub(lambda _: figure(graph), text)


if __name__ == "__main__":
    readme = PROJECT / "README.md"
    readme.write_text(with_figure(readme.read_text(), drawn()))
