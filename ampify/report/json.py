"""The report for programs: JSON of a stable, versioned shape."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from ampify.convert import Status
from ampify.job import Outcome

VERSION = 1


def render(outcomes: Iterable[Outcome], *, done: bool) -> Iterator[bytes]:
    """The report on all files, in ASCII: a path that is no text has its bytes as lone surrogates, as in Python. Whether files
    are written, which is `done`, makes no difference to it."""
    statuses: Counter[Status] = Counter()
    files = []
    edits = 0
    for outcome in outcomes:
        statuses[outcome.result.status] += 1
        edits += len(outcome.result.edits)
        files.append(_file(outcome))
    summary = {"files": len(files), **{status: statuses[status] for status in get_args(Status)}, "edits": edits}
    yield (json.dumps({"version": VERSION, "files": files, "summary": summary}, indent=2) + "\n").encode("ascii")


def _file(outcome: Outcome) -> dict[str, Any]:
    result = outcome.result
    return {
        "path": outcome.path,
        "status": result.status,
        "edits": [edit._asdict() for edit in result.edits],
        "diagnostics": [diagnostic._asdict() for diagnostic in result.diagnostics],
    }
