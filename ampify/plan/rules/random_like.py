"""Random like: numbers drawn in the shape of a tensor, and in its precision

What it finds: `randn_like(x)`, `rand_like(x)`, `normal(x, ...)`, and `normal_()`, `uniform_()` and the like on a new tensor made
like `x` (`empty_like(x)`, `x.new_empty(...)`, `x.new(...)`), where `x` may be in half precision.

Why it matters: half precision draws other normal numbers from the same seed, and leaves the generator in another state, so that
everything drawn afterwards differs too; uniform numbers round to 0 and 1, which are not drawn otherwise.

Before:

    z = mean + std * torch.randn_like(std)

After:

    z = mean + std * torch.randn_like(std.float())

Safety: safe. `.float()` does nothing in float32. Where the file also works in float64 or with complex numbers, it is reported
only, and nothing is done where a `dtype` is given. `F.dropout`, `bernoulli_` and `randint_like` draw the same in any precision.

Source: torch.Generator; measured with torch 2.13 on the CPU.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.constants import is_function, operand
from ampify.plan.rules.file import last_name
from ampify.plan.rules.site import Site

DRAWING = frozenset({"randn_like", "rand_like", "normal"})
FILLING = frozenset({"normal_", "uniform_", "exponential_", "log_normal_", "cauchy_"})
LIKE = frozenset({"empty_like", "zeros_like", "ones_like", "full_like"})
NEW = frozenset({"new", "new_empty", "new_zeros", "new_ones", "new_tensor"})


def find(node: ast.AST, at: Site) -> Iterator[Finding]:
    """The tensor that gives a draw its precision."""
    assert isinstance(node, ast.Call)
    name = last_name(node.func)
    models: list[ast.expr | None] = []
    if name in DRAWING and is_function(node, at):
        models = [*node.args[:2]] if name == "normal" else [operand(node, at)]
        models += [k.value for k in node.keywords if k.arg in ("mean", "std")]
    elif name in FILLING and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call):
        node = node.func.value
        while last_name(node.func) in ("to", "cuda") and isinstance(node.func, ast.Attribute):
            if not isinstance(node.func.value, ast.Call):
                return
            node = node.func.value
        made = last_name(node.func)
        if (made in LIKE and is_function(node, at)) or (made in NEW and not is_function(node, at)):
            models = [operand(node, at)]
    if any(k.arg == "dtype" for k in node.keywords):
        return
    for model in models:
        if model is not None and at.half(model):
            # What `randn_like` takes is a floating-point tensor, or it raises.
            certain = (at.tensor(model) or name in DRAWING - {"normal"} or last_name(node.func) in LIKE) and at.single(model)
            yield Finding(node, (at.float(model),) if certain else (), f"`{ast.unparse(node)[:60]}`")


RULE = Rule(
    "AMP232",
    "random-like",
    "safe",
    "random numbers drawn in half precision, which are others than in float32",
    "draws random numbers in float32",
    "call .float() on the tensor whose shape they get",
    calls=DRAWING | FILLING,
    find=find,
    outside=True,
    grave=False,
)
