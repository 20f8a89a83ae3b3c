"""Uses: where in a program a value goes on to, and whether somebody there minds one more key in it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from ampify.analysis.frames import FUNCTIONS, ClassInfo, Frame, Frames
from ampify.analysis.names import dotted
from ampify.analysis.roles import Roles
from ampify.analysis.sources import Source
from ampify.analysis.vocabulary import GOING_THROUGH
from ampify.analysis.walk import children, walk

VIEWS = frozenset({"items", "keys", "values", "popitem"})
Loops = ast.For | ast.AsyncFor | ast.comprehension


class Uses:
    """The expressions of a file by their text and the frame that binds it."""

    def __init__(self, frames: Frames, roles: Roles) -> None:
        self.frames, self.roles = frames, roles
        self.parents: dict[ast.AST, ast.AST] = {}
        self._of_text: dict[tuple[Frame | ClassInfo, str], list[Source]] = {}
        self._of_key: dict[str, list[Source]] = {}
        for frame in frames.all:
            for stmt in frame.node.body:
                self._visit(stmt, frame)

    def _visit(self, node: ast.AST, frame: Frame) -> None:
        if isinstance(node, FUNCTIONS):
            return  # a frame of its own
        if isinstance(node, (ast.Name, ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Load):
            if text := dotted(node):
                self._of_text.setdefault((self._binder(text, frame), text), []).append((node, frame))
            if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                self._of_key.setdefault(str(node.slice.value), []).append((node, frame))
        for child in children(node):
            self.parents[child] = node
            self._visit(child, frame)

    def _binder(self, text: str, frame: Frame) -> Frame | ClassInfo:
        """The frame that binds the name a text begins with; the class, for attributes of its instances."""
        name = text.partition(".")[0].partition("[")[0]
        method = frame.method
        if method is not None and method.owner is not None and name == method.self_name:
            return method.owner
        return next((f for f in frame.chain() if name in f.bindings), self.frames.module)

    def key(self, node: ast.expr, frame: Frame) -> object:
        """What tells a value from others, of its name or not."""
        text = dotted(node)
        return (self._binder(text, frame), text) if text else node

    def before(self, node: ast.expr, frame: Frame) -> Iterator[Source]:
        """The expressions that a value comes from: what callers pass or functions return, the mapping that it is unpacked of."""
        if isinstance(node, ast.Call):
            yield from self.roles.returns(node, frame)
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
            yield node.value, frame
        if not (text := dotted(node)):
            return
        binder = self._binder(text, frame)
        if isinstance(binder, Frame) and any(b.how == "param" for b in binder.bindings.get(text, ())):
            yield from self.roles.passed(text, binder)
            for call, where in self.frames.callers(binder, linked=True):  # of the keywords of `restore(**checkpoint)`
                yield from ((k.value, where) for k in call.keywords if k.arg is None)
        yield from self.roles.sources(text, frame)
        for binding in self.frames.lookup(text, frame):
            view = binding.value.func if binding.path and isinstance(binding.value, ast.Call) else None
            if isinstance(view, ast.Attribute) and view.attr in VIEWS:
                yield view.value, binding.frame

    def of(self, text: str, frame: Frame) -> list[Source]:
        """The places where a value is read by its text, those of an instance's attributes in files with its other classes too."""
        binder = self._binder(text, frame)
        if isinstance(binder, Frame):
            return self._of_text.get((binder, text), [])
        family = self.frames.everywhere(binder)
        members = dict.fromkeys([*family, *(sub for info in family for sub in info.home.subclasses(info, linked=True))])
        return [place for info in members for place in info.home.file.uses._of_text.get((info, text), ())]

    def loads_by_key(self) -> bool:
        """Whether a loop over a mapping loads what it finds there."""
        names = self.frames.names
        calls = names.nodes.of(ast.Call) if "load_state_dict" in names.attributes else []
        loading = [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr == "load_state_dict"]
        return any(_loads_of(call, loop) for call in loading for loop in self._loops_round(call))

    def _loops_round(self, node: ast.AST) -> Iterator[ast.For | ast.AsyncFor]:
        """The loops of its function that a node stands in the body of."""
        inner, outer = node, self.parents.get(node)
        while outer is not None:
            if isinstance(outer, (ast.For, ast.AsyncFor)) and inner in outer.body:
                yield outer
            inner, outer = outer, self.parents.get(outer)

    def loaded_again(self) -> Iterator[Source]:
        """What `torch.load` gives back of the files that `torch.save` writes, where both name them by the same expression."""
        calls = [(c, frame, self.frames.names.resolve(c.func)) for frame in self.frames.all for c in frame.calls if c.args]
        saved = {self._place(c.args[1], frame) for c, frame, name in calls if name == "torch.save" and len(c.args) > 1}
        yield from ((c, f) for c, f, name in calls if name == "torch.load" and self._place(c.args[0], f) in saved)

    def _place(self, path: ast.expr, frame: Frame) -> tuple[object, ...]:
        names = [n.id for n in walk(path) if isinstance(n, ast.Name)]
        return ast.dump(path), *(self._binder(name, frame) for name in names)

    def is_gone_through(self, node: ast.AST) -> bool:
        """Whether the keys of the mapping that an expression gives are gone through, counted or compared right there."""
        parent = self.parents.get(node)
        if isinstance(parent, Loops):
            return parent.iter is node
        if isinstance(parent, ast.Attribute):
            shown = self.parents.get(self.parents.get(parent, parent))  # `print(checkpoint.keys())`
            return parent.attr in VIEWS and not (isinstance(shown, ast.Call) and dotted(shown.func) == "print")
        if isinstance(parent, ast.Call):
            return node in parent.args and dotted(parent.func) in GOING_THROUGH
        if isinstance(parent, ast.Compare):
            return any(isinstance(op, (ast.Eq, ast.NotEq)) for op in parent.ops)
        if isinstance(parent, ast.Assign) and parent.value is node:
            return any(isinstance(t, (ast.Tuple, ast.List)) for t in parent.targets)
        return isinstance(parent, ast.Starred) or (isinstance(parent, ast.keyword) and parent.arg is None)

    def onward(self, node: ast.AST, frame: Frame) -> Iterator[Source]:
        """The expressions that hold the value next."""
        parent = self.parents.get(node)
        if isinstance(parent, ast.Assign):
            yield from ((target, frame) for target in parent.targets)
        elif isinstance(parent, (ast.AnnAssign, ast.AugAssign, ast.NamedExpr)):
            yield parent.target, frame
        elif isinstance(parent, (ast.BinOp, ast.IfExp, ast.BoolOp, ast.Await)):
            yield parent, frame
        elif isinstance(parent, ast.Dict):
            at = parent.values.index(node) if node in parent.values else -1
            key = parent.keys[at] if at >= 0 else None
            if at >= 0 and key is None:
                yield parent, frame
            elif isinstance(key, ast.Constant):
                yield from self._of_key.get(str(key.value), ())
        elif isinstance(parent, ast.Return):
            yield from self.frames.callers(frame, linked=True)
        elif isinstance(parent, ast.Call) or (isinstance(parent, ast.keyword) and parent.arg):
            yield from self._passed_on(node, parent, frame)

    def _passed_on(self, node: ast.AST, parent: ast.Call | ast.keyword, frame: Frame) -> Iterator[Source]:
        """The parameters of functions of the program that an argument becomes; the dict, where it updates one."""
        call = self.parents[parent] if isinstance(parent, ast.keyword) else parent
        if not isinstance(call, ast.Call):
            return
        if isinstance(call.func, ast.Attribute) and call.func.attr == "update":
            yield call.func.value, frame
        for target in self.roles.targets(call, frame):
            names = self.roles.positional(target)
            name = parent.arg if isinstance(parent, ast.keyword) else ""
            if node in call.args and (at := call.args.index(node)) < len(names):
                name = names[at]
            if name:
                yield ast.Name(name, ast.Load()), target


def gone_through(mappings: Iterable[Source], homes: Iterable[Uses]) -> bool:
    """Whether the keys of a mapping, or of what it becomes by another name, are gone through, counted or compared.

    It is followed through assignments, other dicts, the functions of the program and their callers, and back to where it comes
    from. `homes` are the files whose checkpoints these are.
    """
    homes = list(homes)
    again = [source for home in homes for source in home.loaded_again()]
    stack = [(node, frame, False) for node, frame in (*mappings, *again)]
    seen = set[object]()
    while stack:
        node, frame, back = stack.pop()
        uses, text = frame.home.file.uses, dotted(node)
        key = (uses.key(node, frame), back)
        if key in seen:
            continue
        seen.add(key)
        stack.extend((value, where, True) for value, where in uses.before(node, frame))
        for place, where in [(node, frame), *(uses.of(text, frame) if text else ())]:
            there = where.home.file.uses
            if there.is_gone_through(place):
                return True
            if not (back and isinstance(there.parents.get(place), ast.Return)):  # it came from there; others call for others
                stack.extend((value, at, back) for value, at in there.onward(place, where))
    return any(home.loads_by_key() for home in homes)


def _loads_of(call: ast.Call, loop: ast.For | ast.AsyncFor) -> bool:
    """Whether a call loads what a loop finds in a mapping: `for name, state in checkpoint.items(): ...`."""
    view = loop.iter.func if isinstance(loop.iter, ast.Call) and isinstance(loop.iter.func, ast.Attribute) else None
    viewed = view is not None and view.attr in VIEWS
    mapping = dotted(view.value if view is not None and viewed else loop.iter)
    state = call.args[0] if call.args else None
    if isinstance(state, ast.Subscript):
        return mapping != "" and dotted(state.value) == mapping
    return viewed and isinstance(state, ast.Name) and state.id in {n.id for n in walk(loop.target) if isinstance(n, ast.Name)}
