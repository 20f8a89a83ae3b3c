"""Imports and aliases: from the names of a file to the qualified names behind them."""

import ast
import builtins
import re
from itertools import pairwise
from typing import NamedTuple

from ampify.analysis.walk import Index

NO_GRAD = frozenset({"torch.no_grad", "torch.inference_mode", "torch.autograd.no_grad", "torch.autograd.grad_mode.no_grad"})
AUTOCAST = (
    "torch.autocast", "torch.amp.autocast", "torch.cuda.amp.autocast", "torch.cpu.amp.autocast", "torch.xpu.amp.autocast",
    "torch.amp.autocast_mode.autocast", "torch.cuda.amp.autocast_mode.autocast", "torch.cpu.amp.autocast_mode.autocast",
)  # fmt: skip
RUNTIME = "ampify_runtime"
DEVICES = "CUDA_VISIBLE_DEVICES"
# What `from torch... import *` brings, by the module: names for certain, whatever else is imported that way, and likely ones.
STARRED = {
    "torch.optim": (
        "Adafactor|Adadelta|Adagrad|Adam|Adamax|AdamW|ASGD|LBFGS|Muon|NAdam|RAdam|RMSprop|Rprop|SGD|SparseAdam|lr_scheduler",
        "swa_utils|Optimizer",
    ),
    "torch.nn": (
        "Module(List|Dict)?|Sequential|Parameter|DataParallel|(Lazy)?(Bil|L)inear|(Conv(Transpose)?|Max|Avg)(Pool)?[123]d|Dropout\\d?d?|"
        "(Batch|Instance)Norm[123]d|(Layer|Group)Norm|Embedding|(LSTM|GRU|RNN)(Cell)?|Transformer\\w*|MultiheadAttention|Flatten|"
        "(Leaky|P)?ReLU6?|[EGC]ELU|SiLU|Sigmoid|Tanh|(Log)?Softmax|\\w+Loss",
        "[A-Z]\\w*|functional|init|utils|parallel",
    ),
    "torch.autograd": ("Variable", "Function|backward|grad|no_grad|enable_grad"),
    "torch.nn.functional": (r"\w+(_loss|_entropy|_with_logits)", r"[a-z]\w*"),
    "torch": ("no_grad|Tensor|randn|manual_seed", r"[a-z]\w*"),
}


class Plain(NamedTuple):
    """What `--runtime torch` writes at module level, by its local names: torch, whether mixed precision is on, the scaler."""

    torch: str
    enabled: str
    scaler: str
    statements: tuple[ast.stmt, ast.stmt]

    @property
    def region(self) -> str:
        """The context of an autocast region, as it is written: bfloat16 where the scaler is off for good."""
        dtype = "bfloat16" if "False" in ast.unparse(self.statements[1]) else "float16"
        return f'{self.torch}.autocast("cuda", dtype={self.torch}.{dtype}, enabled={self.enabled})'


class Names:
    """Resolves dotted expressions through the file's imports, wherever they stand, and simple aliases of modules."""

    def __init__(self, tree: ast.Module) -> None:
        self.aliases: dict[str, str] = {}
        self.runtime: dict[str, str] = {}
        self.loaded: set[str] = set()  # names that are read
        self.rebound: set[str] = set()  # names bound by something other than an import
        self.strings: set[str] = set()  # and keywords: what may be the key of something
        self.devices: list[int] = []  # lines that choose the devices of the process through its environment
        self.imported: dict[str, list[ast.stmt]] = {}  # by local name, the statements that import it
        self.stars: list[str] = []  # modules of which everything is imported
        self.assigned: dict[str, list[ast.expr]] = {}  # by name, what it is plainly assigned
        self.defined: set[str] = set()  # names of functions and classes
        self.nodes = Index(tree)
        self._read_imports()
        self.attributes = {node.attr for node in self.nodes.of(ast.Attribute)}
        for node in self.nodes.of(ast.Name):
            (self.loaded if isinstance(node.ctx, ast.Load) else self.rebound).add(node.id)
        for assign in self.nodes.of(ast.Assign):
            if len(assign.targets) == 1 and isinstance(assign.targets[0], ast.Name):
                self.assigned.setdefault(assign.targets[0].id, []).append(assign.value)
        self.arguments = {node.arg for node in self.nodes.of(ast.arg)}
        for kind in (ast.FunctionDef, ast.ClassDef, ast.AsyncFunctionDef):
            self.defined.update(getattr(node, "name", "") for node in self.nodes.of(kind))
        self.rebound.update(self.arguments, self.defined)
        for binder in (ast.ExceptHandler, ast.MatchAs, ast.MatchStar):
            self.rebound.update(getattr(node, "name", None) or "" for node in self.nodes.of(binder))
        self.rebound.update(node.rest or "" for node in self.nodes.of(ast.MatchMapping))
        for constant in self.nodes.of(ast.Constant):
            self._note_text(constant.value, constant.lineno)
        for keyword in self.nodes.of(ast.keyword):
            self._note_text(keyword.arg, keyword.lineno)
        self.rebound.update(self.assigned)
        self.taken = self.loaded.union(self.aliases, self.rebound)
        self._resolved: dict[ast.Attribute, str] = {}
        for name, values in self.assigned.items():
            # `optim = torch.optim`: a second name of a module
            if len(values) == 1 and name not in self.aliases and isinstance(values[0], ast.Attribute):
                target = self.resolve(values[0])
                if target.startswith("torch."):
                    self.aliases[name] = target
        self._resolved.clear()  # there are more aliases now
        self.plain = self._plain(tree)
        self.scaler = self.runtime.get("scaler", "") or (self.plain.scaler if self.plain else "")
        self.scalers = frozenset({self.scaler} - {""})
        self.contexts: frozenset[str] = frozenset()  # names of autocast contexts that an author keeps
        self.adopted = False

    def _read_imports(self) -> None:
        """Notes what the imports bind."""
        for node in self.nodes.imports:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    local = alias.asname or alias.name.partition(".")[0]
                    self.aliases[local] = alias.name if alias.asname else local
                    self.imported.setdefault(local, []).append(node)
                continue
            module = "." * node.level + (node.module or "")
            if node.names[0].name == "*":
                self.stars.append(module)
            for alias in node.names:
                local = alias.asname or alias.name
                self.aliases[local] = f"{module}.{alias.name}"
                self.imported.setdefault(local, []).append(node)
                if is_runtime(node):
                    self.runtime[alias.name] = local

    def _note_text(self, text: object, line: int) -> None:
        if isinstance(text, str):
            self.strings.add(text)
            if text == DEVICES:
                self.devices.append(line)

    def _plain(self, tree: ast.Module) -> Plain | None:
        """The pair of statements of `--runtime torch`, to the letter; None where it is not."""
        for first, second in pairwise(tree.body):
            if not (isinstance(first, ast.Assign) and isinstance(second, ast.Assign) and isinstance(first.value, ast.Call)):
                continue
            enabled, scaler = dotted(first.targets[0]), dotted(second.targets[0])
            torch, _, function = dotted(first.value.func).partition(".")
            if function != "cuda.is_available" or self.aliases.get(torch) != "torch" or not (enabled + scaler).isidentifier():
                continue
            for on in (enabled, "False"):
                written = f'{enabled} = {torch}.cuda.is_available()\n{scaler} = {torch}.amp.GradScaler("cuda", enabled={on})'
                if ast.unparse(ast.parse(written)) == f"{ast.unparse(first)}\n{ast.unparse(second)}":
                    return Plain(torch, enabled, scaler, (first, second))
        return None

    def adopt(self, scalers: frozenset[str], contexts: frozenset[str]) -> None:
        """Takes an author's own scalers and autocast contexts, by their names, for those that the file has."""
        self.adopted = True
        self.scalers |= scalers
        self.scaler = self.scaler or min(scalers, default="")
        self.contexts = contexts

    def is_scaler(self, node: ast.AST) -> bool:
        """Whether an expression is a scaler, by its name."""
        return bool(self.scalers) and dotted(node) in self.scalers

    def local_names(self, name: str) -> list[str]:
        """The names that imports of this file give to something called `name`."""
        return [local for local, target in self.aliases.items() if target.rpartition(".")[2] == name]

    def is_no_grad(self, node: ast.AST) -> bool:
        """Whether an expression, a context or a decorator, turns gradients off."""
        name = self.resolve(node.func if isinstance(node, ast.Call) else node)
        if name == "torch.set_grad_enabled" and isinstance(node, ast.Call) and node.args:
            return isinstance(node.args[0], ast.Constant) and not node.args[0].value
        return name in NO_GRAD

    def is_autocast(self, node: ast.AST) -> bool:
        """Whether an expression is the context of an autocast region: the runtime's, or torch's."""
        return self._is_context(node, disabled=False)

    def is_disabled(self, node: ast.AST) -> bool:
        """Whether an expression is the context of statements that autocast leaves alone."""
        return self._is_context(node, disabled=True)

    def _is_context(self, node: ast.AST, disabled: bool) -> bool:
        if self.contexts and dotted(node) in self.contexts:
            return not disabled
        if not isinstance(node, ast.Call):
            return False
        own = self.runtime.get("autocast", "")
        torchs = AUTOCAST if self.adopted else AUTOCAST[:1]
        if not (own and dotted(node.func) == own) and self.resolve(node.func) not in torchs:
            return False
        off = [k.value for k in node.keywords if k.arg == "enabled" and isinstance(k.value, ast.Constant) and not k.value.value]
        return bool(off) is disabled

    def mentions(self, last: str) -> bool:
        """Whether the qualified name of anything in the file may end in `last`."""
        return last in self.attributes or last in self.loaded or any(t.rpartition(".")[2] == last for t in self.aliases.values())

    def means(self, name: str) -> bool:
        """Whether the file binds a name anywhere, so that it may be no builtin function."""
        starred = any(module.partition(".")[0] in ("torch", "numpy") for module in self.stars)
        return name in self.rebound or name in self.aliases or starred

    def is_foreign(self, node: ast.AST) -> bool:
        """Whether an expression is of a module that is imported, and not of torch: `math.sqrt` is no method of a tensor."""
        root = node
        while isinstance(root, ast.Attribute):
            root = root.value
        known = isinstance(root, ast.Name) and root.id in self.aliases and root.id not in self.rebound
        return known and root is not node and not self.resolve(node).startswith("torch.")

    def resolve(self, node: ast.AST) -> str:
        """The qualified dotted name of an expression, or an empty string where it is not one."""
        if type(node) is ast.Attribute:
            name = self._resolved.get(node)
            if name is None:
                base = self.resolve(node.value)
                name = self._resolved[node] = f"{base}.{node.attr}" if base else ""
            return name
        if type(node) is ast.Name:
            return self.aliases.get(node.id) or self._starred(node.id)
        return ""

    def _starred(self, name: str) -> str:
        """The qualified name of what only an import of everything of a module of torch's can have brought."""
        if not self.stars or name in self.rebound or hasattr(builtins, name):
            return name
        others = any(module not in STARRED for module in self.stars)
        for likely in (0,) if others else (0, 1):
            for module, patterns in STARRED.items():
                if module in self.stars and re.fullmatch(patterns[likely], name):
                    return f"{module}.{name}"
        return name


def is_runtime(node: ast.AST) -> bool:
    """Whether a statement is `from ampify_runtime import ...`, or `from .ampify_runtime ...`, of one vendored in a package."""
    return isinstance(node, ast.ImportFrom) and node.module == RUNTIME and node.level <= 1


def dotted(node: ast.AST) -> str:
    """The text of `a`, `a.b` or `a['key']`, by which a value is followed within a scope; empty for anything else."""
    if type(node) is ast.Name:
        return node.id
    if type(node) is ast.Attribute:
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    if type(node) is ast.Subscript and isinstance(node.slice, ast.Constant):
        base = dotted(node.value)
        return f"{base}[{node.slice.value!r}]" if base else ""
    return ""
