"""What a rule is, what it may ask about the code it looks at, and what it answers."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Collection, Iterator
from functools import cached_property
from typing import Literal, NamedTuple

from ampify.analysis.analyse import Reading
from ampify.analysis.doubts import Doubts
from ampify.analysis.evidence import FLOATING, UNKNOWN
from ampify.analysis.frames import ClassInfo, Frame
from ampify.analysis.kinds import Kinds
from ampify.analysis.names import dotted
from ampify.analysis.precision import Precision, Precisions
from ampify.analysis.syntax import header, own_statements
from ampify.analysis.walk import walk
from ampify.diagnostics import Severity
from ampify.plan.edits import Disable, Edit, Insert, Splice
from ampify.program import Kind

SIMPLE = (ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Expr)  # statements that may stand with autocast off
Regions = Callable[[ast.stmt], bool]
Applicability = Literal["safe", "unsafe", "display"]
DOUBLE = frozenset({"torch.float64", "torch.double", "torch.DoubleTensor", "torch.cuda.DoubleTensor"})
CONTAINERS = frozenset({"list", "dict", "tuple", "set", "deque", "defaultdict", "OrderedDict"})
FLOAT64 = frozenset(  # functions of NumPy's with arrays of float64
    "linspace logspace geomspace eye identity zeros ones empty rand randn random random_sample normal uniform hamming".split()
)


class Finding(NamedTuple):
    """A hazard at a place: the edits that mend it together, or none, with the reason why it stays (`detail`).

    `refuse` is the AMP9xx code under which it stands against converting the file.
    """

    node: ast.AST
    edits: tuple[Edit, ...] = ()
    detail: str = ""
    refuse: str = ""


class Rule(NamedTuple):
    """One numeric hazard; its module's docstring is the manual page.

    `safe` rules are no-ops while autocast is off, and applied by default; `unsafe` ones change values; `display` ones only
    report. `hazard` says what goes wrong, `message` what an edit does, `advice` what the author can do where there is none.
    `find` gets every node of
    the types in `nodes`, and every call of a function or method named in `calls`, that may run under autocast, and, of an
    `outside` rule, all others in functions that hold regions; `survey` looks at the file as a whole; where `asks` of one file
    is true, its code makes the rule look into the files that it imports too. `severity` is that of what it reports.
    A `grave` hazard raises or spoils the training, so a script is refused if it is in a file that was not given.
    """

    code: str
    name: str
    applicability: Applicability
    hazard: str
    message: str = ""
    advice: str = ""
    nodes: tuple[type[ast.AST], ...] = ()
    calls: frozenset[str] = frozenset()
    find: Callable[[ast.AST, Site], Iterator[Finding]] | None = None
    survey: Callable[[File], Iterator[Finding]] | None = None
    asks: Callable[[File], bool] | None = None
    outside: bool = False
    severity: Severity = "warning"
    grave: bool = True

    def manual(self) -> str:
        """The docstring of its module."""
        function = self.find or self.survey
        assert function is not None
        return (sys.modules[function.__module__].__doc__ or "").strip()


class File:
    """A file whose code, or part of it, runs under autocast.

    `under` tells which statements stand in regions, `off` which where autocast is off; `entries` are the names that regions of
    other files call in it, `asked` the codes of rules that another file's code makes look here, `others` the files that it
    imports.
    """

    def __init__(self, reading: Reading, under: Regions, off: Regions, entries: Collection[str] = ()) -> None:
        self.reading, self.under, self.off, self.entries = reading, under, off, entries
        self.asked: frozenset[str] = frozenset()
        self.others: tuple[File, ...] = ()
        self.names, self.frames, self.roles = reading.names, reading.frames, reading.roles
        self.doubts = Doubts(reading.roles)
        self.called = self._called()  # the functions that run under autocast as a whole
        self._precisions: dict[Frame, Precisions] = {}
        self._kinds: dict[Frame, Kinds] = {}
        self._again: set[Frame] = set()
        self._reading = False
        self.torch = reading.program.torch[0][1] if reading.program.torch else ""

    @cached_property
    def float64(self) -> bool:
        """Whether the file works in float64, so that `.float()` would not be a no-op."""
        return any(
            (isinstance(node, ast.Attribute) and (node.attr == "double" or self.resolve(node) in DOUBLE))
            or (isinstance(node, ast.Name) and self.resolve(node) in DOUBLE)
            or (isinstance(node, ast.Constant) and node.value in DOUBLE)
            or (isinstance(node, ast.keyword) and node.arg == "dtype" and self._is_python_float(node.value))
            or (isinstance(node, ast.Call) and self._keeps_float64(node))
            for node in walk(self.reading.tree)
        )

    def _is_python_float(self, node: ast.expr) -> bool:
        """Whether a dtype is Python's `float`, which is float64."""
        return isinstance(node, ast.Name) and node.id == "float" and not self.names.means("float")

    def _keeps_float64(self, node: ast.Call) -> bool:
        """Whether a tensor is made of an array of NumPy's own precision, and not cast where it is made."""
        if self.resolve(node.func) not in ("torch.from_numpy", "torch.tensor", "torch.as_tensor") or len(node.args) != 1:
            return False
        if node.keywords and any(k.arg == "dtype" for k in node.keywords):
            return False
        made = node.args[0]
        if not isinstance(made, ast.Call) or any(k.arg == "dtype" for k in made.keywords) or node in self._cast:
            return False
        return self.resolve(made.func).rpartition(".")[2] in FLOAT64 and self.resolve(made.func).startswith("numpy.")

    @cached_property
    def _cast(self) -> set[ast.AST]:
        """The expressions that a method is called on at once which chooses a dtype."""
        methods = (n.func for n in walk(self.reading.tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute))
        return {func.value for func in methods if func.attr in ("float", "to", "type", "type_as", "long", "int", "bool", "half")}

    def precisions(self, frame: Frame) -> Precisions:
        if frame not in self._precisions:
            called, first = frame in self.called, not self._reading
            self._reading = True
            self._kinds[frame] = Kinds(frame, self.roles, called, self.kinds)
            self._precisions[frame] = Precisions(frame, self.roles, self.under, called, self._kinds[frame])
            if first:
                self._reading = False
                for other in [f for f, kinds in self._kinds.items() if kinds.early and f not in self._again and f is not frame]:
                    self._again.add(other)  # once more, when it is asked for: its callers and callees are known now
                    del self._kinds[other], self._precisions[other]
        return self._precisions[frame]

    def autocasts(self, stmt: ast.stmt, frame: Frame) -> bool:
        """Whether a statement of a function may run under autocast."""
        return self.under(stmt) or (frame in self.called and not self.off(stmt))

    def kinds(self, frame: Frame) -> Kinds:
        """Which values of a function are tensors, as far as it is known yet: functions may call each other."""
        return self._kinds[frame] if frame in self._kinds else self.precisions(frame).kinds

    def modules(self) -> list[ClassInfo]:
        """The nn.Module classes of the file."""
        return [info for info in self.frames.classes.values() if self.roles.is_module(info)]

    def resolve(self, node: ast.AST) -> str:
        """The qualified name of an expression, or an empty string."""
        return self.names.resolve(node)

    def number(self, stmt: ast.stmt) -> int:
        return self.reading.numbers[stmt][0]

    def imports(self, others: Collection[File]) -> None:
        """Says what files it imports."""
        self.others = tuple(others)

    def ask(self, codes: frozenset[str]) -> None:
        """Says which rules other files' code makes look here."""
        self.asked = codes

    def outgoing(self) -> set[str]:
        """The names of the functions that code under autocast calls, in this file or elsewhere."""
        calls = [call for frame in self.called for call in frame.calls]
        for frame in self.frames.all:
            for stmt in statements(frame):
                if self.under(stmt):
                    calls.extend(node for part in parts(stmt) for node in ast.walk(part) if isinstance(node, ast.Call))
        return {c.func.attr if isinstance(c.func, ast.Attribute) else dotted(c.func) for c in calls}

    def _called(self) -> set[Frame]:
        """The methods of modules and autograd functions, what regions call here or from elsewhere, and what these call."""
        found: set[Frame] = set()
        queue = [
            frame for name in self.entries for frame in self.frames.functions.get(name, ()) if frame.parent is self.frames.module
        ]
        for info in self.frames.classes.values():
            if self.roles.is_module(info) or self.roles.is_function(info):
                queue.extend(m for name, m in info.methods.items() if name not in ("__init__", "backward"))
        for frame in self.frames.all:
            inside = {node for stmt in statements(frame) if self.under(stmt) for part in parts(stmt) for node in ast.walk(part)}
            queue.extend(t for call in frame.calls if call in inside for t in self.roles.targets(call, frame))
        while queue:
            frame = queue.pop()
            if frame not in found and not isinstance(frame.node, ast.Module):
                found.add(frame)
                queue.extend(t for call in frame.calls for t in self.roles.targets(call, frame))
        trains = {
            scope.number
            for scope in self.reading.program.scopes
            if any(e.kind is Kind.BACKWARD for s in scope.statements() for e in s.events)
        }
        return {f for f in found if isinstance(f.node, ast.stmt) and self.number(f.node) not in trains}


class Site:
    """A statement of a file that may run under autocast, in one of its functions."""

    def __init__(self, file: File, frame: Frame, stmt: ast.stmt, code: str) -> None:
        self.file, self.frame, self.stmt, self.code = file, frame, stmt, code

    @property
    def precisions(self) -> Precisions:
        """Read when a rule asks, as most functions hold no hazard."""
        return self.file.precisions(self.frame)

    @property
    def number(self) -> int:
        return self.file.number(self.stmt)

    def resolve(self, node: ast.AST) -> str:
        """The qualified name of an expression, or an empty string."""
        return self.file.resolve(node)

    def of(self, node: ast.AST) -> Precision:
        """The precision of an expression of the statement."""
        return self.precisions.of(node)

    def half(self, node: ast.AST) -> bool:
        """Whether an expression may be a tensor in half precision."""
        return self.of(node) > Precision.FULL

    @property
    def runs(self) -> bool:
        """Whether the statement may run under autocast; outside, tensors are still half that were made under it."""
        return self.file.autocasts(self.stmt, self.frame)

    def floating(self, node: ast.expr) -> bool:
        """Whether an expression is a floating tensor for certain, of which `.float()` does nothing in float32."""
        return self.precisions.kinds.of(node) is FLOATING and not self.file.doubts.several(node, self.frame)

    def tensor(self, node: ast.expr) -> bool:
        """Whether an expression is a tensor for certain, or made of one by methods."""
        kinds, first = self.precisions.kinds, receiver(node)
        if kinds.of(node) is not UNKNOWN:
            return True
        return bool(dotted(first)) and kinds.of(first) is not UNKNOWN and not self.container(dotted(first))

    def container(self, text: str) -> bool:
        """Whether a name is, at times, a list or a dict, or an array of NumPy: `outs = []`, `outs = torch.stack(outs)`."""
        literals = (ast.List, ast.ListComp, ast.Dict, ast.DictComp, ast.Tuple, ast.Set)
        for bound in self.file.frames.lookup(text, self.frame):
            value = bound.value if bound.how == "assign" and not bound.path else None
            if isinstance(value, ast.BinOp):
                value = value.left if isinstance(value.left, literals) else value.right
            name = self.resolve(value.func) if isinstance(value, ast.Call) else ""
            made = name.rpartition(".")[2] in CONTAINERS or name.startswith("numpy.")
            if isinstance(value, literals) or made:
                return True
        return False

    def complex(self, node: ast.expr) -> bool:
        """Whether an expression may be a complex tensor."""
        return self.file.doubts.complex(node, self.frame)

    def single(self, *nodes: ast.expr) -> bool:
        """Whether `.float()` changes nothing of tensors: they are in half or single precision, neither float64 nor complex."""
        return not self.file.float64 and not any(map(self.complex, nodes))

    def parent(self, node: ast.AST) -> ast.AST | None:
        return self.precisions.parents.get(node)

    # edits -------------------------------------------------------------------------------------------

    def wrap(self, node: ast.expr, before: str, after: str) -> Splice:
        """Text round an expression."""
        end = (node.end_lineno or node.lineno, node.end_col_offset or 0)
        return Splice(self.number, (node.lineno, node.col_offset), end, before, after, self.code)

    def suffix(self, node: ast.expr, text: str) -> Splice:
        """`.float()` or the like behind an expression, in parentheses if it needs them and has none."""
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript | ast.Call):
            return self.wrap(node, "", text)
        outer, end = self.parent(node), node.end_col_offset or 0
        if isinstance(outer, ast.Attribute) and outer.end_lineno == node.end_lineno:
            if outer.end_col_offset == end + len(").") + len(outer.attr):
                place = (node.end_lineno or 0, end + 1)
                return Splice(self.number, place, place, "", text, self.code)
        return self.wrap(node, "(", f"){text}")

    def float(self, node: ast.expr) -> Splice:
        """`node.float()`."""
        return self.suffix(node, ".float()")

    def like(self, node: ast.expr, other: ast.expr) -> Splice:
        """`node.to(other.dtype)`; `other` must be a name or an attribute."""
        return self.suffix(node, f".to({verbatim(other)}.dtype)")

    def stands_apart(self) -> bool:
        """Whether the statement may stand in a block with autocast off: a simple one, which suspends nothing meanwhile."""
        suspends = (ast.Yield, ast.YieldFrom, ast.Await)
        return isinstance(self.stmt, SIMPLE) and not any(isinstance(n, suspends) for n in walk(self.stmt))

    def disabled(self) -> Disable:
        """The statement with autocast off."""
        return Disable(self.number, self.code)

    def below(self, text: str) -> Insert:
        """A statement right below."""
        return Insert(self.number, True, text, self.code)


def verbatim(node: ast.expr) -> str:
    """The text of a name or attribute, as an edit's text takes it."""
    return dotted(node).replace("{", "{{").replace("}", "}}")


def statements(frame: Frame) -> Iterator[ast.stmt]:
    """The statements of a function, or of the module, without those of functions and classes inside."""
    return own_statements(frame.node.body)


def parts(stmt: ast.stmt) -> list[ast.AST]:
    """The expressions of a statement itself, of a compound one those of its header."""
    return header(stmt)


def halves(stmt: ast.stmt, operands: list[ast.expr], at: Site) -> list[ast.expr]:
    """The widest names, attributes and elements of a statement that may be half, where they are read; and `operands` that are
    made of one by methods only."""
    found: list[ast.expr] = []

    def visit(node: ast.expr) -> None:
        text = isinstance(node, ast.Name | ast.Attribute | ast.Subscript)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "float" and not node.args:
            return
        if at.of(node) is Precision.NONE:
            return
        if at.half(node) and (text or (any(node is o for o in operands) and dotted(receiver(node)))):
            found.append(node)
            return
        if isinstance(node, ast.Call):
            method = [node.func.value] if isinstance(node.func, ast.Attribute) else []
            inside: list[ast.AST] = [*method, *node.args, *(k.value for k in node.keywords)]
        else:
            inside = list(ast.iter_child_nodes(node))
        for child in inside:
            if isinstance(child, ast.expr):
                visit(child)

    for part in parts(stmt):
        if isinstance(part, ast.expr) and not isinstance(getattr(part, "ctx", None), ast.Store):
            visit(part)
    return found


def receiver(node: ast.expr) -> ast.expr:
    """What a chain of methods and elements begins with."""
    while isinstance(node, ast.Call | ast.Subscript | ast.Attribute):
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Attribute) or node.args[1:]:
                return node
            node = node.func.value
        elif dotted(node):
            return node
        else:
            node = node.value
    return node
