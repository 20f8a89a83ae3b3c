"""What a verification came to, for programs: JSON, and the numbers that a page draws."""

import json
import math
from typing import Any

from ampify.verify.compare import Comparison, Row
from ampify.verify.records import Run

VERSION = 1  # of the document; fields are added without a new one


def render(comparison: Comparison) -> bytes:
    """One JSON document, with a line feed at its end. What is not finite is null."""
    return (json.dumps(document(comparison), indent=2, allow_nan=False) + "\n").encode()


def document(comparison: Comparison) -> dict[str, Any]:
    """The document as a value: the original, then the modes in the order in which they ran."""
    original = comparison.original
    return {
        "version": VERSION,
        "same": comparison.good,
        "device": original.device,
        "original": _run(original, original.skipped),
        "modes": [_row(row) for row in comparison.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    verdict = row.verdict
    return {
        "mode": row.mode,
        "verdict": verdict.word,
        "gradient_error": _finite(verdict.distance),
        "gradient_error_allowed": _finite(verdict.limit),
        "reasons": list(verdict.reasons),
        "notes": list(verdict.notes),
        **_run(row.run, row.skipped),
    }


def _run(run: Run, skipped: int) -> dict[str, Any]:
    return {
        "steps": sum(map(len, run.steps.values())),
        "skipped": skipped,
        "seconds_per_step": run.seconds,
        "peak_memory_bytes": run.memory or None,
        "losses": [_finite(loss) for loss in run.losses()],
        "failure": run.failure or None,
        "errors": list(run.errors),
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
