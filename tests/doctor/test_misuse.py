"""The fixtures of `misuse`: what is mended trains as the float32 script, with the scaler's calls taken out by hand."""

import ast

import pytest
import torch

from tests.fixtures_suite.cases import Case, all_cases

MENDED = [case for case in all_cases() if case.family == "misuse" and case.is_converted]


class WithoutScaler(ast.NodeTransformer):
    """Takes every call of something called a scaler out of a script."""

    @staticmethod
    def method(node: ast.AST) -> str:
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and ast.unparse(node.func.value).endswith("scaler")
        ):
            return node.func.attr
        return ""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if self.method(node.value) in ("update", "unscale_", "load_state_dict") else self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        kept = [(k, v) for k, v in zip(node.keys, node.values, strict=True) if not self.method(v)]
        node.keys, node.values = [k for k, _ in kept], [v for _, v in kept]
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if self.method(node) == "scale":
            return node.args[0]
        if self.method(node) == "step":
            return ast.Call(ast.Attribute(node.args[0], "step", ast.Load()), [], [])
        return node


def trained(tree: ast.Module) -> list[torch.Tensor]:
    names: dict[str, object] = {}
    exec(compile(ast.fix_missing_locations(tree), "<script>", "exec"), names)
    model = names["model"]
    assert isinstance(model, torch.nn.Module)
    return [p.detach().clone() for p in model.parameters()]


def test_there_are_some() -> None:
    assert len(MENDED) >= 4


@pytest.mark.parametrize("case", MENDED, ids=lambda case: case.name)
def test_the_mended_script_trains_as_the_float32_one(case: Case) -> None:
    mended = ast.parse(case.output_path.read_bytes())
    plain = WithoutScaler().visit(ast.parse(case.source))
    assert "scaler." not in ast.unparse(plain).replace("GradScaler", "").replace("torch.amp.", "")
    expected = trained(plain)
    assert all(map(torch.equal, trained(mended), expected))
    try:
        wrong = trained(ast.parse(case.source))
    except (RuntimeError, AssertionError):
        return  # it raises as it is
    assert not all(map(torch.equal, wrong, expected))
