"""Loss curves in plain text."""

import math
from collections.abc import Sequence

HEIGHT, WIDTH = 10, 60
MARKS = ".ox+#"
SEVERAL = "*"  # curves that meet


def plot(curves: dict[str, Sequence[float]]) -> list[str]:
    """The lines of a plot of several curves over their steps. What is not finite is left out; nothing of fewer than two steps."""
    points = [value for curve in curves.values() for value in curve if math.isfinite(value)]
    steps = max(map(len, curves.values()), default=0)
    if not points or steps < 2:
        return []
    low, high = min(points), max(points)
    span = (high - low) or 1.0
    canvas = [[" "] * WIDTH for _ in range(HEIGHT)]
    for mark, curve in zip(MARKS, curves.values(), strict=False):
        for column in range(WIDTH):
            value = curve[min(column * steps // WIDTH, steps - 1)] if column * steps // WIDTH < len(curve) else math.nan
            if math.isfinite(value):
                row = round((high - value) / span * (HEIGHT - 1))
                canvas[row][column] = mark if canvas[row][column] == " " else SEVERAL
    labels = {0: f"{high:.4g}", HEIGHT - 1: f"{low:.4g}"}
    margin = max(map(len, labels.values()))
    lines = [f"{labels.get(number, ''):>{margin}} |{''.join(row)}".rstrip() for number, row in enumerate(canvas)]
    lines.append(f"{'':>{margin}} +{'-' * WIDTH}")
    lines.append(f"{'':>{margin}}  {'step 1':<{WIDTH - len(str(steps))}}{steps}")
    legend = [f"{mark} {name}" for mark, name in zip(MARKS, curves, strict=False)]
    return [*lines, f"{'':>{margin}}  {'   '.join([*legend, f'{SEVERAL} several'] if len(curves) > 1 else legend)}"]
