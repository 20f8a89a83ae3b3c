"""The promise, checked on every conversion from the two byte strings alone, and nothing of the plan.

Erasure: undoing every form that ampify emits gives the original's syntax tree. Protocol: the scaler's state machine holds on all
paths. Stability: converting the output again plans nothing. It compiles, all comments are there, and the lines that no edit is in
are the original's.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings

from ampify.analysis.analyse import Reading
from ampify.analysis.frames import FUNCTIONS
from ampify.analysis.library import Finder, Library
from ampify.analysis.names import Names, dotted, is_runtime
from ampify.analysis.together import elsewhere
from ampify.analysis.walk import walk
from ampify.lines import Written, changed_line
from ampify.plan.planner import left_over, make_plan
from ampify.plan.rules.search import Search, disabled, find
from ampify.program import Kind, Program, Scope
from ampify.protocol import Overlay, check
from ampify.source import check_compiles

DECORATORS = frozenset({"custom_bwd", "custom_fwd", "full_precision_fwd", "unscaled_bwd"})


class ProofError(Exception):
    """The output does not keep the promise: a bug of ampify's, so nothing may be written."""


def prove(original: bytes, output: bytes, search: Search = Search(), path: str = "", finder: Finder | None = None) -> None:
    """Raises ProofError with the first promise that the output breaks; `search` says which rules looked, and at what. `path` and
    `finder` are those of ampify.convert.Surroundings.

    Raises SourceError where the original does not compile, though it parses.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the user's code: not ours to print
            before, after = ast.parse(original), ast.parse(output)
            compile(output, "<converted>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError) as error:
        check_compiles(original)
        raise ProofError(f"the output does not compile: {error}") from None
    _same_comments(original, output)
    file = Library(finder).add(after, path)
    reading = file.reading
    names, known = reading.names, Names(before)
    had, written = _written(known), _written(names)
    _imports_first(after, names)
    _own_keys(known, names)
    _protocol(reading.program, names.plain is not None)
    plan, hazards = make_plan(reading.program), find(reading, (), search)
    refused = plan.refusals or hazards.refusals or (reading.program.refusals and not reading.program.stepless)
    if refused or plan.edits or hazards.edits or left_over(reading.program, names.plain is not None, lambda: elsewhere(file)):
        raise ProofError("converting the output again would change it")
    _disabled(reading, search)
    added = _added_import(after, names)
    erased = erase(after, names)
    pairs: list[tuple[ast.stmt, ast.stmt]] = []
    difference = _difference(erase(before, known), erased, names, pairs, written.lines)
    if difference and added is not None:
        erased.body.remove(added)
        written.lines.add(added.lineno)
        pairs.clear()
        difference = _difference(before, erased, names, pairs, written.lines)
    if difference:
        raise ProofError(f"erasing the edits does not give the original back: {difference}")
    if changed := changed_line(original, output, pairs, written, had):
        raise ProofError(f"something changes outside of the edits: {changed}")


def _written(names: Names) -> Written:
    """Where a file speaks of the runtime, or of torch.amp's scaler and regions."""
    eraser = _Eraser(names)
    local = set(names.runtime.values())
    written = Written(set(), [], set())
    if names.plain is not None:
        local |= {names.plain.enabled, names.plain.scaler}
        written.apart.update(stmt.lineno for stmt in names.plain.statements)
    written.lines.update(node.lineno for node in names.nodes.of(ast.Name) if node.id in local)
    for stmt in names.nodes.imports:
        if is_runtime(stmt):
            written.lines.update(range(stmt.lineno, (stmt.end_lineno or stmt.lineno) + 1))
    for block in names.nodes.of(ast.With):
        if eraser.is_region(block):
            written.lines.update(range(block.lineno, block.body[0].lineno))
            written.regions.append((block.lineno, block.end_lineno or block.lineno))
    written.apart.update(expression.lineno for expression in names.nodes.of(ast.Expr) if eraser.pins(expression))
    return written


def _imports_first(tree: ast.Module, names: Names) -> None:
    """The runtime's names are bound by its import alone, before anything runs that uses them; so are the scaler of torch.amp
    and its switch by their statements, and torch's name by imports of torch."""
    local = set(names.runtime.values())
    own: list[ast.Name] = []
    if names.plain is not None:
        local |= {names.plain.enabled, names.plain.scaler, names.plain.torch}
        own = [node for stmt in names.plain.statements for node in getattr(stmt, "targets", ()) if isinstance(node, ast.Name)]
    bound = {n.id for n in names.nodes.of(ast.Name) if not isinstance(n.ctx, ast.Load) and n not in own} | names.arguments
    bound |= names.defined
    for stmt in names.nodes.imports:
        if not is_runtime(stmt):
            torch = _torch_bound(stmt) if names.plain is not None and stmt in tree.body else ()
            bound.update({a.asname or a.name.partition(".")[0] for a in stmt.names}.difference(torch))
    if twice := local & bound:
        raise ProofError(f"`{twice.pop()}` of the output means two things")
    needed = {name: {name} for name in local}  # by name, what of the runtime's it needs when it runs
    known: set[str] = set()
    for each in tree.body:
        if isinstance(each, ast.ImportFrom) and is_runtime(each):
            known.update(a.asname or a.name for a in each.names)
            continue
        if names.plain is not None:
            known |= _torch_bound(each)
            known |= {target.id for target in own if target in getattr(each, "targets", ())}
        mentioned = {n.id for n in walk(each) if isinstance(n, ast.Name)}
        used = {name for mention in mentioned if mention in needed for name in needed[mention]}
        if isinstance(each, (*FUNCTIONS, ast.ClassDef)):
            needed[each.name] = used
        elif used - known:
            raise ProofError(f"line {each.lineno} of the output uses `{(used - known).pop()}` before its import")


def _own_keys(before: Names, names: Names) -> None:
    """What is new beside optimizers' states, under a key of a dict or call, takes the place of nothing else, and is loaded by
    the key that it is saved under."""
    if before.scaler:
        return  # the keys are there already
    eraser = _Eraser(names)
    keys: set[object] = set()
    for node in names.nodes.of(ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        keys.update(getattr(k, "value", None) for k, v in pairs if eraser.is_state(v))
    keys.update(keyword.arg for keyword in names.nodes.of(ast.keyword) if eraser.is_state(keyword.value))
    for assign in names.nodes.of(ast.Assign):
        if eraser.is_state(assign.value):
            keys.update(getattr(t.slice, "value", None) for t in assign.targets if isinstance(t, ast.Subscript))
    for call in names.nodes.of(ast.Call):
        if eraser.method(call) == "load_state_dict" and isinstance(call.args[0], ast.Call):
            keys.update(getattr(a, "value", None) for a in call.args[0].args[:1])
    if len(keys) > 1 or not all(re.fullmatch(r"(grad_|amp_)?scaler\d*", str(key)) for key in keys):
        raise ProofError("the scaler's state is not loaded by the key that it is saved under, or that is not a key of ampify's")
    if clash := keys & before.strings:
        raise ProofError(f"`{clash.pop()}`, the scaler's key in a checkpoint, is another's in the original")


# protocol --------------------------------------------------------------------------------------------


def _protocol(program: Program, plain: bool) -> None:
    for scope in program.whole():
        # Where nothing steps on gradients no backward has to be scaled: a file that is rewritten for the rules' sake alone.
        for violation in check(scope, Overlay(plain=plain), strict=not program.stepless).violations:
            raise ProofError(f"line {violation.line} of the output: {violation.problem.value}")
    for scope in program.own():
        for stmt in scope.statements():
            if any(e.kind is Kind.STEP and not e.done for e in stmt.events):
                raise ProofError(f"line {stmt.line} of the output: an optimizer steps without the scaler")
            if stmt.autocast:
                _region(scope, stmt.number, stmt.end)


def _region(scope: Scope, first: int, end: int) -> None:
    """No region may hold a backward, a step, a parameter update, a yield or another region."""
    for stmt in scope.statements():
        if first < stmt.number < end and stmt.barrier is not None:
            raise ProofError(f"line {stmt.line} of the output: {stmt.barrier.value} inside an autocast region")


def _disabled(reading: Reading, search: Search) -> None:
    """Autocast is off only round single statements for which a rule asks for it."""
    withs = [stmt for stmt in reading.numbers if isinstance(stmt, ast.With)]
    off = [s for s in withs if any(reading.names.is_disabled(item.context_expr) for item in s.items)]
    asked = disabled(reading, search) if off else {}
    for stmt in off:
        if len(stmt.body) > 1 or not asked.get(reading.numbers[stmt.body[0]][0]):
            raise ProofError(f"line {stmt.lineno} of the output: autocast is off where nothing needs float32")


# erasure ---------------------------------------------------------------------------------------------


def erase(tree: ast.Module, names: Names) -> ast.Module:
    """Undoes, in place, every form that ampify writes, as the tree's own imports of the runtime, or its scaler, name them."""
    if not (names.runtime or names.plain or names.mentions("grad")):
        return tree
    erased = _Eraser(names).visit(tree)
    assert isinstance(erased, ast.Module)
    return erased


def _torch_bound(stmt: ast.AST) -> set[str]:
    """The local names that a statement binds to torch itself."""
    if not isinstance(stmt, ast.Import):
        return set()
    full = {a.asname or a.name.partition(".")[0]: a.name if a.asname else a.name.partition(".")[0] for a in stmt.names}
    return {local for local, module in full.items() if module == "torch"}


def _added_import(tree: ast.Module, names: Names) -> ast.stmt | None:
    """The only `import torch`, if it is right before the scaler of torch.amp: the original's, or added for the scaler."""
    plain = names.plain
    if plain is None or len(names.imported[plain.torch]) > 1:
        return None
    at = tree.body.index(plain.statements[0]) - 1
    given = ("import torch", f"import torch as {plain.torch}")
    return tree.body[at] if at >= 0 and ast.unparse(tree.body[at]) in given else None


class _Eraser(ast.NodeTransformer):
    def __init__(self, names: Names) -> None:
        self.names, self.plain = names, names.plain
        autocast = names.runtime.get("autocast", "")
        off = f'{self.plain.torch}.autocast("cuda", enabled=False)' if self.plain else f"{autocast}(enabled=False)"
        region = self.plain.region if self.plain else f"{autocast}()"
        known = self.plain is not None or autocast != ""
        self.regions = [ast.dump(ast.parse(text, mode="eval").body) for text in (region, off)] if known else []
        self.scaler = names.scaler
        self.configure = names.runtime.get("configure", "")
        self.full_precision = names.runtime.get("full_precision", "")
        self.decorators = {local for name, local in names.runtime.items() if name in DECORATORS}

    def method(self, node: ast.AST) -> str:
        """The method of the scaler that a call is of, or an empty string."""
        if (
            self.scaler
            and isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and dotted(node.func.value) == self.scaler
        ):
            return node.func.attr
        return ""

    def unscaled(self, node: ast.expr) -> ast.expr:
        """The loss of `scaler.scale(loss)`, which may stand only where a backward begins."""
        if self.method(node) == "scale" and isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords:
            return node.args[0]
        return node

    def visit_Module(self, node: ast.Module) -> ast.AST:
        ours = self.plain.statements if self.plain else ()
        node.body = [s for s in node.body if not self.pins(s) and s not in ours]
        return self.generic_visit(node)

    def pins(self, stmt: ast.stmt) -> bool:
        """Whether a statement is `configure(mode="fp16")`, or bf16, which stands at module level only."""
        call = stmt.value if isinstance(stmt, ast.Expr) else None
        if not isinstance(call, ast.Call) or not self.configure or dotted(call.func) != self.configure or call.args:
            return False
        return [(k.arg, getattr(k.value, "value", None)) for k in call.keywords] in ([("mode", "fp16")], [("mode", "bf16")])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if is_runtime(node) else node

    def visit_With(self, node: ast.With) -> ast.AST | list[ast.stmt]:
        ours = self.is_region(node)
        self.generic_visit(node)
        return node.body if ours else node

    def is_region(self, node: ast.With) -> bool:
        context = node.items[0].context_expr
        return (
            len(node.items) == 1
            and node.items[0].optional_vars is None
            and isinstance(context, ast.Call)
            and ast.dump(context) in self.regions
        )

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.decorator_list = [d for d in node.decorator_list if dotted(d) not in self.decorators]
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        call = node.value
        if isinstance(call, ast.Call) and self.full_precision and dotted(call.func) == self.full_precision:
            return None if len(call.args) == 1 and not call.keywords else self.generic_visit(node)
        method = self.method(call)
        operands = {"unscale_": 1, "update": 0, "load_state_dict": 1}.get(method)
        if isinstance(call, ast.Call) and len(call.args) == operands and not call.keywords:
            if method != "load_state_dict" or _may_lack_it(call.args[0]):
                return None
        return self.generic_visit(node)

    def is_state(self, node: ast.AST) -> bool:
        return self.method(node) == "state_dict" and isinstance(node, ast.Call) and not node.args and not node.keywords

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        item = len(node.targets) == 1 and isinstance(node.targets[0], ast.Subscript)
        return None if item and self.is_state(node.value) else self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        kept = [(k, v) for k, v in zip(node.keys, node.values, strict=True) if not self.is_state(v)]
        node.keys, node.values = [k for k, _ in kept], [v for _, v in kept]
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [k for k in node.keywords if not self.is_state(k.value)]
        self.generic_visit(node)
        method = self.method(node)
        if method == "grad" or self.names.resolve(node.func) == "torch.autograd.grad":
            node.func = ast.Name("torch.autograd.grad", ast.Load())  # whatever its spelling was
        if isinstance(node.func, ast.Attribute) and node.func.attr == "backward":
            node.func.value = self.unscaled(node.func.value)
        if self.names.resolve(node.func) == "torch.autograd.backward" or dotted(node.func).endswith("autograd.backward"):
            node.args[:1] = [self.unscaled(a) for a in node.args[:1]]
            for keyword in node.keywords:
                keyword.value = self.unscaled(keyword.value) if keyword.arg == "tensors" else keyword.value
        if node.args and (method == "step" or (method == "step_scheduler" and not self.plain)):
            return ast.Call(ast.Attribute(node.args[0], "step", ast.Load()), node.args[1:], node.keywords)
        return node


def _may_lack_it(state: ast.expr) -> bool:
    """`checkpoint.get(key, {})`: a checkpoint from before the conversion has no such key."""
    if not isinstance(state, ast.Call) or not isinstance(state.func, ast.Attribute) or state.func.attr != "get" or state.keywords:
        return False
    return len(state.args) == 2 and isinstance(state.args[0], ast.Constant) and ast.unparse(state.args[1]) == "{}"


def _bare(node: ast.AST, names: Names) -> ast.AST | None:
    """The expression in one of the forms that change nothing in float32: `x.float()`, `x.to(y.dtype)`, a constant within the
    limits of a dtype; None for anything else."""
    if not isinstance(node, ast.Call) or node.keywords:
        return None
    if isinstance(node.func, ast.Attribute):
        dtype = node.args[0] if len(node.args) == 1 else None
        to = node.func.attr == "to" and isinstance(dtype, ast.Attribute) and dtype.attr == "dtype" and dotted(dtype)
        return node.func.value if to or (node.func.attr == "float" and not node.args) else None
    other = {"max": "min", "min": "max"}.get(dotted(node.func))
    limit = node.args[1] if other and len(node.args) == 2 else None
    if isinstance(limit, ast.Attribute) and limit.attr == other and isinstance(limit.value, ast.Call):
        return node.args[0] if names.resolve(limit.value.func) == "torch.finfo" else None
    return None


def _difference(a: ast.AST, b: ast.AST, names: Names, pairs: list[tuple[ast.stmt, ast.stmt]], written: set[int]) -> str:
    """Where two trees first differ, or an empty string; the second may have forms that change nothing in float32, whose lines
    are added to `written`. The statements of both come into `pairs`."""
    stack: list[tuple[object, object]] = [(a, b)]
    line = 1
    while stack:
        x, y = stack.pop()
        if isinstance(x, ast.AST) and isinstance(y, ast.Call):
            inner = _bare(y, names)
            if inner is not None and not _alike(x, y, names):
                stack.append((x, inner))
                written.update(range(y.lineno, (y.end_lineno or y.lineno) + 1))
                continue
        if type(x) is not type(y):
            return f"line {line}"
        if isinstance(x, ast.stmt) and isinstance(y, ast.stmt):
            pairs.append((x, y))
        if isinstance(x, ast.AST):
            line = getattr(x, "lineno", line)
            for field in x._fields:
                if field not in ("ctx", "kind", "type_comment"):
                    stack.append((getattr(x, field, None), getattr(y, field, None)))
        elif isinstance(x, list):
            assert isinstance(y, list)
            if len(x) != len(y):
                return f"line {line}"
            stack.extend(zip(x, y, strict=True))
        elif x != y:
            return f"line {line}"
    return ""


def _alike(x: ast.AST, y: ast.Call, names: Names) -> bool:
    """Whether the original has the same form at the same place: `x.to(device)` is not `x.to(device).to(y.dtype)`."""
    if not isinstance(x, ast.Call) or _bare(x, names) is None or len(x.args) != len(y.args):
        return False
    if [ast.dump(a) for a in x.args[-1:]] != [ast.dump(a) for a in y.args[-1:]]:
        return False
    if isinstance(x.func, ast.Attribute) and isinstance(y.func, ast.Attribute):
        return x.func.attr == y.func.attr
    return type(x.func) is type(y.func) and dotted(x.func) == dotted(y.func)


# comments --------------------------------------------------------------------------------------------


def _same_comments(original: bytes, output: bytes) -> None:
    """Compares the comments; tokenizes only where the lines with a `#` are not the same ones."""
    lines = [[part.strip() for part in text.splitlines() if b"#" in part] for text in (original, output)]
    if lines[0] != lines[1] and _comments(original) != _comments(output):
        raise ProofError("the comments are not the same")


def _comments(source: bytes) -> list[str]:
    tokens = tokenize.tokenize(io.BytesIO(source).readline)
    return [t.string for t in tokens if t.type == tokenize.COMMENT]
