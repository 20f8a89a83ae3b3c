"""Doubts: which values may be complex numbers, or several tensors in one.

`.float()` loses a part of complex numbers, and tuples of tensors have no such method. So both questions are answered on the
safe side, backwards from what an expression is made of.
"""

from __future__ import annotations

import ast

from ampify.analysis.callees import layers, results
from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.operators import ARITHMETIC, COMPLEX, FLOATS, KEEPING, LEARNED, REAL, SEVERAL, SHARED, TUPLES
from ampify.analysis.roles import Roles
from ampify.analysis.sources import element
from ampify.analysis.syntax import is_false

OF_TENSORS = KEEPING | SHARED | ARITHMETIC | LEARNED | FLOATS | REAL | {"to", "float", "cuda", "clone"}


class Doubts:
    """Answers for the expressions of one file."""

    def __init__(self, roles: Roles) -> None:
        self.roles, self.frames, self.names = roles, roles.frames, roles.names
        self._passed: bool | None = None

    def several(self, node: ast.expr, frame: Frame, met: frozenset[str] = frozenset()) -> bool:
        """Whether an expression may be a tuple or list of tensors, of which each is what it is, or a plain number."""
        if isinstance(node, (ast.Tuple, ast.List, ast.ListComp, ast.Constant)):
            return True
        if isinstance(node, ast.IfExp):
            return self.several(node.body, frame, met) or self.several(node.orelse, frame, met)
        if isinstance(node, ast.Call):
            last = node.func.attr if isinstance(node.func, ast.Attribute) else ""
            if last in SEVERAL or layers(node.func, frame, self.roles) & TUPLES:
                return True
            outcomes = results(node, frame, self.roles)
            key = f"{id(outcomes[0][1])} returned" if outcomes else ""
            return key not in met and any(self.several(value, where, met | {key}) for value, where in outcomes)
        key = f"{id(frame)} {dotted(node)}"
        if not dotted(node) or key in met:
            return False
        bound = [b for b in self.frames.lookup(dotted(node), frame) if b.how == "assign" and b.value is not None]
        values = [(element(b.value, b.path), b.frame) for b in bound if b.value is not None]
        # A number that is written out is where a sum of tensors begins: `loss = 0`, `loss += ...`.
        values = [v for v in values if not isinstance(v[0][0], ast.Constant)]
        return any(self.several(value, where, met | {key}) for (value, path), where in values if not path)

    def complex(self, node: ast.expr, frame: Frame, met: frozenset[str] = frozenset()) -> bool:
        """Whether an expression may be a complex tensor."""
        text = dotted(node)
        if isinstance(node, ast.Constant):
            return isinstance(node.value, complex)
        if isinstance(node, ast.Attribute) and node.attr in REAL:
            return False
        if self.names.resolve(node) in COMPLEX:
            return True
        if text:
            return self._complex_name(text, frame, met) or (
                isinstance(node, (ast.Attribute, ast.Subscript)) and self.complex(node.value, frame, met)
            )
        if isinstance(node, ast.Call):
            name = self.names.resolve(node.func)
            last = node.func.attr if isinstance(node.func, ast.Attribute) else name.rpartition(".")[2]
            if last in REAL:
                return False
            if last == "stft" and any(k.arg == "return_complex" and not is_false(k.value) for k in node.keywords):
                return True
            if name in COMPLEX or last in ("fft", "cfloat", "cdouble") or (name.startswith("torch.fft.") and "shift" not in last):
                return True
            outcomes = results(node, frame, self.roles)
            key = f"{id(outcomes[0][1])} returned" if outcomes else ""
            if outcomes and key not in met and any(self.complex(value, where, met | {key}) for value, where in outcomes):
                return True
        inner = [p.value if isinstance(p, ast.keyword) else p for p in ast.iter_child_nodes(node)]
        return any(self.complex(p, frame, met) for p in inner if isinstance(p, ast.expr))

    def _complex_name(self, text: str, frame: Frame, met: frozenset[str]) -> bool:
        every = self.frames.lookup(text, frame)
        key = f"{id(every[0].frame)} {text}" if every else ""
        if key in met:
            return False
        for bound in every:
            if bound.how == "param":
                if self._complex_is_passed():
                    return True
            elif bound.value is not None and self.complex(bound.value, bound.frame, met | {key}):
                return True
        return False

    def _complex_is_passed(self) -> bool:
        """Whether some call in the file of something else than torch gets a complex tensor."""
        if self._passed is None:
            self._passed = False  # what is asked meanwhile is about parameters, which stand for what is passed
            self._passed = any(self._complex_arguments(frame) for frame in self.frames.all)
        return self._passed

    def _complex_arguments(self, frame: Frame) -> bool:
        for call in frame.calls:
            name = self.names.resolve(call.func)
            method = isinstance(call.func, ast.Attribute) and dotted(call.func.value) != frame.self_name
            known = method and isinstance(call.func, ast.Attribute) and call.func.attr in OF_TENSORS
            if not name.startswith(("torch.", "print", "len")) and not known:
                if any(self.complex(a, frame) for a in (*call.args, *(k.value for k in call.keywords))):
                    return True
        return False
