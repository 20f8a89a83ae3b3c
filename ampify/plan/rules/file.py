"""What a rule may ask about a file: which of its code runs under autocast, and in which precision."""

from __future__ import annotations

import ast
from collections.abc import Callable, Collection
from functools import cached_property
from typing import TYPE_CHECKING

from ampify.analysis.analyse import Reading
from ampify.analysis.callees import returned
from ampify.analysis.doubts import Doubts
from ampify.analysis.frames import FUNCTIONS, ClassInfo, Frame
from ampify.analysis.kinds import Kinds
from ampify.analysis.names import dotted
from ampify.analysis.operators import COMPLEX as COMPLEX_NAMES
from ampify.analysis.precision import Precision, join
from ampify.analysis.propagation import Precisions
from ampify.analysis.syntax import header, own_statements
from ampify.analysis.walk import children
from ampify.program import Kind

if TYPE_CHECKING:
    from ampify.plan.rules.constants import Numbers

Regions = Callable[[ast.stmt], bool]
DOUBLE = frozenset({"torch.float64", "torch.double", "torch.DoubleTensor", "torch.cuda.DoubleTensor"})
SINGLE = frozenset(f"torch.{name}" for name in "float float32 FloatTensor cuda.FloatTensor".split())
FLOAT64 = frozenset(  # functions of NumPy's with arrays of float64
    "linspace logspace geomspace eye identity zeros ones empty rand randn random random_sample normal uniform hamming".split()
)
COMPLEX = frozenset(name.rpartition(".")[2] for name in COMPLEX_NAMES) | {"fft", "stft"}  # words


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
        self.statements: dict[Frame, list[ast.stmt]] = {}  # of each function, without those of functions and classes inside
        self.nodes: dict[ast.stmt, list[ast.AST]] = {}  # of each statement what rules look at: itself, its calls and operators
        self.numbers: dict[tuple[str, Frame, int], Numbers] = {}  # what ampify.plan.rules.constants found behind names
        self.words: set[str] = set()  # the names in the file, also those of attributes, keywords and imports
        self._index()
        self.called = self._called()  # the functions that run under autocast as a whole
        self._precisions: dict[Frame, Precisions] = {}
        self._kinds: dict[Frame, Kinds] = {}
        self._again: set[Frame] = set()
        self._reading = False
        self.torch = reading.program.torch[0][1] if reading.program.torch else ""

    def _index(self) -> None:
        """Goes through the file, once for all rules."""
        for frame in self.frames.all:
            self.statements[frame] = list(own_statements(frame.node.body))
            for stmt in self.statements[frame]:
                self.nodes[stmt] = [stmt, *(node for part in header(stmt) for node in self._read(part))]
                self._read_definition(stmt)
            self.words.update(last_name(call.func) for call in frame.calls)
        for target in self.names.aliases.values():
            self.words.update(target.split("."))

    def _read_definition(self, stmt: ast.stmt) -> None:
        """The words of what is evaluated with a definition: decorators, defaults, bases, statements of a class."""
        if not isinstance(stmt, (*FUNCTIONS, ast.ClassDef)):
            return
        around = [stmt.args] if isinstance(stmt, FUNCTIONS) else [*stmt.bases, *stmt.keywords]
        for part in (*around, *stmt.decorator_list):
            self._read(part)
        for inner in own_statements(stmt.body) if isinstance(stmt, ast.ClassDef) else ():
            for part in header(inner):
                self._read(part)
            self._read_definition(inner)

    def _read(self, root: ast.AST) -> list[ast.AST]:
        """The calls and operators of an expression, the outer ones first."""
        nodes, found = [root], list[ast.AST]()
        for node in nodes:
            if isinstance(node, ast.Name):
                self.words.add(node.id)
                continue
            if isinstance(node, ast.Attribute):
                self.words.add(node.attr)
            elif isinstance(node, (ast.Call, ast.BinOp)):
                found.append(node)
            elif isinstance(node, ast.keyword):
                self.words.add(node.arg or "")
            elif isinstance(node, ast.Constant):
                if isinstance(node.value, complex):
                    self.words.add("complex")
                continue
            nodes.extend(children(node))
        return found

    @cached_property
    def complex(self) -> bool:
        """Whether anything in the file makes complex numbers."""
        return not self.words.isdisjoint(COMPLEX)

    @cached_property
    def float64(self) -> bool:
        """Whether the file works in float64, so that `.float()` would not be a no-op."""
        nodes = self.names.nodes
        return (
            any(node.attr == "double" or self._is_float64(node) for node in nodes.of(ast.Attribute))
            or any(self.resolve(node) in DOUBLE for node in nodes.of(ast.Name))
            or not self.names.strings.isdisjoint(DOUBLE)
            or any(node.arg == "dtype" and self._is_python_float(node.value) for node in nodes.of(ast.keyword))
            or any(self._keeps_float64(node) or self._sets_default(node) for node in nodes.of(ast.Call))
        )

    def _is_float64(self, node: ast.Attribute) -> bool:
        """Whether an attribute is a dtype of torch's of float64, or may be."""
        return self.resolve(node) in DOUBLE or (node.attr in ("float64", "DoubleTensor") and not self.names.is_foreign(node))

    def _sets_default(self, node: ast.Call) -> bool:
        """Whether tensors are made in another precision than float32 by default, or may be."""
        if self.resolve(node.func) not in ("torch.set_default_dtype", "torch.set_default_tensor_type") or not node.args:
            return False
        given = node.args[0]
        return (given.value if isinstance(given, ast.Constant) else self.resolve(given)) not in SINGLE

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
        methods = (n.func for n in self.names.nodes.of(ast.Call) if isinstance(n.func, ast.Attribute))
        return {func.value for func in methods if func.attr in ("float", "to", "type", "type_as", "long", "int", "bool", "half")}

    def precisions(self, frame: Frame) -> Precisions:
        if frame not in self._precisions:
            called, first = frame in self.called, not self._reading
            self._reading = True
            self._kinds[frame] = Kinds(frame, self.roles, called, self.kinds)
            self._precisions[frame] = Precisions(frame, self.roles, self.under, called, self._kinds[frame], self.handed)
            if first:
                self._reading = False
                for other in [f for f, kinds in self._kinds.items() if kinds.early and f not in self._again and f is not frame]:
                    self._again.add(other)  # once more, when it is asked for: its callers and callees are known now
                    del self._kinds[other], self._precisions[other]
        return self._precisions[frame]

    @cached_property
    def handing_on(self) -> set[Frame]:
        """The functions with regions of their own, and those that call them."""
        found = {f for f in self.frames.all if any(map(self.under, self.statements[f]))}
        before = -1
        while before != len(found):
            before = len(found)
            found.update(f for f in self.frames.all if any(t in found for c in f.calls for t in self.roles.targets(c, f)))
        return found

    def handed(self, call: ast.Call, frame: Frame) -> Precision:
        """What functions with regions of their own return to a call; NONE for others, and for those that are being read."""
        result = Precision.NONE
        for target in self.roles.targets(call, frame):
            busy = target in self._kinds and target not in self._precisions
            if target in self.handing_on and target not in self.called and not busy:
                read = self.precisions(target)
                for value in returned(target):
                    result = join(result, read.of(value)) if value is not None else result
        return result if result > Precision.FULL else Precision.NONE

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
            for stmt in self.statements[frame]:
                if self.under(stmt):
                    calls.extend(node for node in self.nodes[stmt] if isinstance(node, ast.Call))
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
            inside = {node for stmt in self.statements[frame] if self.under(stmt) for node in self.nodes[stmt]}
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


def last_name(func: ast.expr) -> str:
    """The last part of the name of what is called."""
    return func.attr if isinstance(func, ast.Attribute) else dotted(func).rpartition(".")[2]
