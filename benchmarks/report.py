"""Write one HTML file that needs nothing else: tables, plots, environment, how to read it."""

from __future__ import annotations

from pathlib import Path

import jinja2

from benchmarks import plots, tables
from benchmarks.results import Results

TEMPLATE = Path(__file__).resolve().parent / "report.html.j2"


def write_html(results: Results, path: Path) -> None:
    """Write the report of `results` to `path`."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    suites = [
        {
            "name": name,
            "rows": [(row.judgement.value.replace(" ", "-"), tables.cells(row)) for row in rows],
            "notes": tables.notes(rows),
            "plots": [svg for svg in (plots.speedups(rows), plots.conversions(rows)) if svg],
        }
        for name, rows in tables.suites(results.rows).items()
    ]
    text = template.render(
        columns=tables.COLUMNS,
        environment=results.environment,
        suites=suites,
        summary=tables.summary_lines(results.rows),
        left_out=tables.left_out_lines(results.rows),
    )
    path.write_text(text, encoding="utf-8")
