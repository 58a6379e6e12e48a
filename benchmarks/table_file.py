"""The file in which a table of rows is kept beside its document."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.environment import Environment


def write_table(rows: Sequence[Any], summary: str, environment: Environment, path: Path) -> None:
    """Write rows (dataclasses), the line that sums them up, and where they were found."""
    data = {
        "environment": environment.as_dict(),
        "summary": summary,
        "rows": [dataclasses.asdict(row) for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
