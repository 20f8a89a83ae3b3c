"""Probabilities: which sigmoids and softmaxes a value comes from, followed backwards through names, calls, layers and shapes."""

import ast
from collections.abc import Iterator
from typing import NamedTuple

from ampify.analysis.frames import Binding, Frame, Frames
from ampify.analysis.modules import Built, Modules, Place
from ampify.analysis.names import Names, dotted
from ampify.analysis.operators import MULTIPLYING
from ampify.analysis.roles import Roles
from ampify.analysis.sources import element
from ampify.analysis.syntax import blocks_of, own_statements

SQUASHING = frozenset(
    "torch.sigmoid torch.softmax torch.special.expit torch.special.softmax torch.nn.functional.sigmoid "
    "torch.nn.functional.softmax".split()
)
LAYERS = frozenset({"torch.nn.Sigmoid", "torch.nn.Softmax"})
SHAPING = frozenset(  # layers that hand on what they get, of whatever dtype
    (
        "Flatten Unflatten Identity Dropout Dropout1d Dropout2d Dropout3d MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d "
        "AvgPool3d AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool1d AdaptiveMaxPool2d ZeroPad2d"
    ).split()
)
PASSING = frozenset(  # functions and methods that keep float32, and whose values are in half only if an operand is
    (
        "view reshape squeeze unsqueeze flatten transpose permute contiguous clone detach expand expand_as repeat t view_as "
        "reshape_as narrow select index_select gather chunk split unbind to cuda cpu float type_as clamp clamp_ clamp_min "
        "clamp_max clip mean sum min max amin amax abs neg mul add sub div where masked_fill masked_select cat stack concat "
        "nan_to_num roll flip swapaxes movedim squeeze_ unsqueeze_ requires_grad_ take diagonal values"
    ).split()
)
SAME = frozenset({"data", "T", "mT"})
Path = tuple[object, ...]
Block = tuple[list[ast.stmt], ast.stmt | None]
RESHAPING = frozenset("view view_as reshape squeeze unsqueeze flatten detach contiguous cat stack float cuda cpu to".split())


class Origin(NamedTuple):
    """Where a value comes from.

    A call of a sigmoid or softmax, with the `operand` that it gets; or of a layer, with the statement that binds the layer
    and its text behind that (`place`). Without either the search ends at `node`; `aside` if it is only combined with the value,
    `unbounded` if it is the product of a layer, which is no probability.
    """

    node: ast.expr
    operand: ast.expr | None = None
    place: Place | None = None
    aside: bool = False
    unbounded: bool = False


class Probabilities:
    """Answers where the values of one file come from."""

    def __init__(self, names: Names, frames: Frames, roles: Roles) -> None:
        self.names, self.frames, self.roles = names, frames, roles
        self.modules = Modules(names, frames, roles)
        self.home, self._bound = self.modules.home, self.modules.bound
        self._above: dict[ast.stmt, Block] = {}  # of each statement: its block, and whose that is
        for frame in frames.all:
            self._blocks(frame.node.body, None)
        self._seen: set[tuple[ast.AST, Path]] = set()

    def origins(self, node: ast.expr) -> list[Origin]:
        """Where the value of an expression comes from."""
        self._seen = set()
        return list(dict.fromkeys(self._follow(node, (), False)))

    def _blocks(self, body: list[ast.stmt], owner: ast.stmt | None) -> None:
        for stmt in body:
            self._above[stmt] = (body, owner)
            if not isinstance(stmt, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                for block in blocks_of(stmt):
                    self._blocks(block, stmt)
            elif isinstance(stmt, ast.ClassDef):
                self._blocks(stmt.body, None)

    # values ------------------------------------------------------------------------------------------

    def _follow(self, node: ast.expr, path: Path, aside: bool) -> Iterator[Origin]:
        """Where that comes from which is at a path in an expression."""
        if (node, path) in self._seen:
            return
        self._seen.add((node, path))
        if isinstance(node, ast.Constant):
            return
        if isinstance(node, ast.Name):
            yield from self._name(node, path, aside)
        elif isinstance(node, ast.Attribute):
            known = self._name(node, path, aside) if dotted(node) and node.attr not in SAME else ()
            yield from known if node.attr not in SAME else self._follow(node.value, path, aside)
        elif isinstance(node, ast.Subscript):
            key: Path = (node.slice.value,) if isinstance(node.slice, ast.Constant) else ()
            yield from self._follow(node.value, (*key, *path), aside)
        elif isinstance(node, ast.Call):
            yield from self._call(node, path, aside)
        elif isinstance(node, ast.IfExp):
            yield from self._all([node.body, node.orelse], path, aside)
        elif isinstance(node, (ast.NamedExpr, ast.Starred)):
            yield from self._follow(node.value, path, aside)
        elif isinstance(node, ast.UnaryOp):
            yield from self._follow(node.operand, path, aside)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.Div)):
            yield from self._all([node.left, node.right], path, True)
        elif isinstance(node, (ast.Tuple, ast.List)):
            inner, rest = element(node, tuple(p for p in path[:1] if isinstance(p, int)))
            chosen = inner is not node and not rest
            yield from self._follow(inner, path[1:], aside) if chosen else self._all(node.elts, path[1:], aside)
        elif isinstance(node, ast.Dict):
            pairs = zip(node.keys, node.values, strict=True)
            values = [v for k, v in pairs if isinstance(k, ast.Constant) and path[:1] == (k.value,)]
            yield from self._all(values or node.values, path[1:], aside)
        elif isinstance(node, (ast.ListComp, ast.GeneratorExp)):
            yield from self._follow(node.elt, path[1:], aside)
        else:
            yield Origin(node, aside=aside)

    def _all(self, nodes: list[ast.expr], path: Path, aside: bool) -> Iterator[Origin]:
        for node in nodes:
            yield from self._follow(node, path, aside)

    def _name(self, node: ast.Name | ast.Attribute, path: Path, aside: bool) -> Iterator[Origin]:
        """The values that a name may have where it stands."""
        if node not in self.home:
            yield Origin(node, aside=aside)
            return
        text, (stmt, frame) = dotted(node), self.home[node]
        inside = [
            b for b in self._bound.get((stmt, text), ()) if b.how == "for" and not isinstance(stmt, (ast.For, ast.AsyncFor))
        ]
        found, complete = (inside, True) if inside else self._before(stmt, text)
        outer = [] if complete else self.frames.lookup(text, frame)
        for one in (*found, *(b for b in outer if b.frame is not frame or b.how == "param")):
            if isinstance(one, Binding):
                yield from self._binding(one, node, path, aside)
            else:
                yield from self._follow(one, path, True)  # `p *= mask`
        if not found and not outer:
            yield Origin(node, aside=aside)

    def _binding(self, b: Binding, node: ast.Name | ast.Attribute, path: Path, aside: bool) -> Iterator[Origin]:
        values = (
            list(self.modules.passed(dotted(node), b.frame)) if b.how == "param" else [b.value] if b.value is not None else []
        )
        if b.how == "assign":
            path = (*b.path, *path)
        elif b.how == "for":
            path = (None, *b.path, *path)
            if isinstance(b.value, ast.Call) and b.path and dotted(b.value.func) in ("zip", "enumerate"):
                at = b.path[0] if dotted(b.value.func) == "zip" else b.path[0] - 1
                values, path = b.value.args[at : at + 1] if at >= 0 else [], (None, *b.path[1:], *path[len(b.path) + 1 :])
        if not values or b.how == "with":
            yield Origin(node, aside=aside)
            return
        yield from self._all(values, path, aside)

    def _before(self, stmt: ast.stmt, text: str) -> tuple[list[Binding | ast.expr], bool]:
        """What a name may be bound to before a statement runs, in its function; and whether to anything else."""
        found: list[Binding | ast.expr] = []
        current: ast.stmt | None = stmt
        while current is not None and current in self._above:
            block, owner = self._above[current]
            more, complete = self._in(block[: block.index(current)], text)
            found += more
            if complete:
                return found, True
            if isinstance(owner, (ast.For, ast.AsyncFor, ast.While)):  # what an earlier round has bound
                found += [d for d in self._in(owner.body, text)[0] if d not in found]
            if owner is not None and (own := self._bound.get((owner, text), [])):
                return [*found, *own], True
            current = owner
        return found, False

    def _in(self, block: list[ast.stmt], text: str) -> tuple[list[Binding | ast.expr], bool]:
        """What the statements of a block may bind a name to, and whether they do so on every path."""
        found: list[Binding | ast.expr] = []
        for stmt in reversed(block):
            if isinstance(stmt, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
            if isinstance(stmt, ast.AugAssign) and dotted(stmt.target) == text:
                found.append(stmt.value)
            loop = isinstance(stmt, (ast.For, ast.AsyncFor))
            own = [b for b in self._bound.get((stmt, text), ()) if loop or b.how != "for"]  # not those of comprehensions
            parts = [self._in(inner, text) for inner in blocks_of(stmt)]
            found += [*(d for more, _ in parts for d in more), *own]
            every = isinstance(stmt, (ast.If, ast.With, ast.AsyncWith)) and all(complete for _, complete in parts)
            if every or (own and not loop):
                return found, True
        return found, False

    # calls -------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call, path: Path, aside: bool) -> Iterator[Origin]:
        name = self.names.resolve(node.func)
        given = [*node.args, *(k.value for k in node.keywords if k.arg in ("input", "other", "tensors"))]
        last = name.rpartition(".")[2]
        frame = self.home[node][1] if node in self.home else self.frames.module
        if name in SQUASHING and given:
            yield Origin(node, operand=given[0])
        elif name == "torch.nn.parallel.data_parallel" and given:
            for one in self.modules.built(given[0], frame) or [Built(None, None)]:
                yield from self._applied(one, node, path, aside)
        elif name.startswith("torch."):
            if last not in PASSING or not given:
                yield Origin(node, aside=aside)
                return
            first = given[1:] if last == "where" else given
            rest = (None,) if last in ("cat", "stack", "concat") else ()
            yield from self._kept(self._follow(first[0], (*rest, *path), aside), last) if first else ()
            yield from self._all(first[1:], path, True)
        elif built := self.modules.built(node.func, frame):
            for one in built:
                yield from self._applied(one, node, path, aside)
        elif targets := self.roles.targets(node, frame):
            for target in targets:
                yield from self._returned(node, target, path, aside)
        elif isinstance(node.func, ast.Attribute) and node.func.attr in ("sigmoid", "softmax"):
            yield Origin(node, operand=node.func.value)
        elif isinstance(node.func, ast.Attribute) and node.func.attr in PASSING:
            yield from self._kept(self._follow(node.func.value, path, aside), node.func.attr)
            operators = ("mul", "add", "sub", "div", "where", "min", "max", "masked_fill")
            yield from self._all(node.args, path, True) if node.func.attr in operators else ()
        else:
            yield Origin(node, aside=aside)

    @staticmethod
    def _kept(origins: Iterator[Origin], function: str) -> Iterator[Origin]:
        """What a function hands on: some clamp to probabilities what was none."""
        return origins if function in RESHAPING else (origin._replace(unbounded=False) for origin in origins)

    def _returned(self, node: ast.expr, target: Frame, path: Path, aside: bool) -> Iterator[Origin]:
        """What a function of the file returns to a call of it."""
        returned = [s.value for s in own_statements(target.node.body) if isinstance(s, ast.Return) and s.value is not None]
        yield from self._all(returned, path, aside) if returned else [Origin(node, aside=aside)]

    def _applied(self, built: Built, node: ast.Call, path: Path, aside: bool) -> Iterator[Origin]:
        """What a module gives for the arguments of a call."""
        value, place = built
        name = self.names.resolve(value.func) if value is not None else ""
        if value is None:
            yield Origin(node, aside=aside)
        elif name in LAYERS:
            operand = node.args[0] if isinstance(node.func, ast.Call) and node.args else None
            yield Origin(node, operand=operand, place=None if operand is not None else place)
        elif name == "torch.nn.Sequential":
            yield from self._sequential(value, place, node, path, aside)
        elif name.startswith("torch.nn.") and name.rpartition(".")[2] in SHAPING and node.args:
            yield from self._follow(node.args[0], path, aside)
        elif self.modules.class_of(value):
            info = self.frames.classes[self.modules.class_of(value)]
            method = next((m.methods["forward"] for m in self.frames.family(info) if "forward" in m.methods), None)
            yield from [Origin(node, aside=aside)] if method is None else self._returned(node, method, path, aside)
        else:
            unbounded = name.startswith("torch.nn.") and name.rpartition(".")[2] in MULTIPLYING
            yield Origin(node, aside=aside, unbounded=unbounded)

    def _sequential(self, value: ast.Call, place: Place | None, node: ast.Call, path: Path, aside: bool) -> Iterator[Origin]:
        """What the last layer of a Sequential gives that does more than to hand on."""
        layers = list(value.args)
        if len(layers) == 1 and isinstance(layers[0], ast.Call) and dotted(layers[0].func).endswith("OrderedDict"):
            pairs = layers[0].args[0].elts if layers[0].args and isinstance(layers[0].args[0], (ast.List, ast.Tuple)) else []
            layers = [p.elts[1] for p in pairs if isinstance(p, ast.Tuple) and len(p.elts) == 2]
        for index, layer in enumerate(reversed(layers), 1):
            kind = self.names.resolve(layer.func) if isinstance(layer, ast.Call) else ""
            if kind.startswith("torch.nn.") and kind.rpartition(".")[2] in SHAPING:
                continue
            if isinstance(layer, ast.Call):
                where = (place[0], f"{place[1]}[-{index}]") if place else None
                yield from self._applied(Built(layer, where), node, path, aside)
            else:
                built = self.modules.built(layer, self.home[layer][1]) if dotted(layer) else []
                for one in built or [Built(None, None)]:
                    yield from self._applied(one, node, path, aside)
            return
        yield Origin(node, aside=aside)
