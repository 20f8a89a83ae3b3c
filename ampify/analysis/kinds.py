"""Kinds: which values of a function are tensors for sure, and which of them floating-point ones.

Read along with their precisions. A tensor's precision may be guessed too high without harm; whether a name has a method `float`
or a `dtype`, and is not an array of indices, has to be known before one is written behind it.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from enum import IntEnum

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Role, Roles
from ampify.analysis.syntax import header, own_statements
from ampify.analysis.vocabulary import MATMULS


class Kind(IntEnum):
    """What is known of a value; a tuple of tensors counts as they do."""

    UNKNOWN = 0
    TENSOR = 1
    FLOATING = 2


UNKNOWN, TENSOR, FLOATING = Kind

DTYPES = {
    **dict.fromkeys((f"torch.{n}" for n in "float float32 double float64 half float16 bfloat16".split()), FLOATING),
    **dict.fromkeys((f"torch.{n}" for n in "bool int int8 int16 int32 int64 long short uint8".split()), TENSOR),
}
MAKING = frozenset("zeros ones rand randn empty eye normal FloatTensor Parameter Buffer".split())  # floating-point ones
WRAPPING = frozenset("tensor as_tensor full from_numpy arange linspace Tensor randint randperm LongTensor".split())
LIKE = frozenset("zeros_like ones_like rand_like randn_like full_like empty_like".split())
NEW = frozenset("new_zeros new_ones new_full new_tensor new_empty new".split())
FLOATS = frozenset(  # functions and methods, which arrays of numpy do not have, with floating-point results
    (
        "softmax log_softmax softmin gumbel_softmax sigmoid logsigmoid tanh exp expm1 log log2 log10 log1p sqrt rsqrt norm "
        "logsumexp softplus cdist matmul mm bmm mv addmm baddbmm einsum linear bilinear conv1d conv2d conv3d "
        "conv_transpose1d conv_transpose2d conv_transpose3d scaled_dot_product_attention layer_norm group_norm batch_norm "
        "instance_norm normalize dropout gelu elu selu celu silu mish leaky_relu interpolate cosine_similarity "
        "pairwise_distance mse_loss l1_loss smooth_l1_loss nll_loss cross_entropy kl_div binary_cross_entropy_with_logits "
        "reciprocal erf sin cos atan2 avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d lerp embedding grid_sample"
    ).split()
)
WIDENING = frozenset(  # of these, those that take integers too
    (
        "exp expm1 log log2 log10 log1p sqrt rsqrt sigmoid tanh sin cos erf atan2 reciprocal logsumexp matmul mm bmm mv addmm "
        "baddbmm einsum l1_loss interpolate pairwise_distance"
    ).split()
)
KEEPING = frozenset(  # with results like their operands, and which arrays do not have either
    (
        "view unsqueeze permute contiguous detach expand expand_as chunk unbind flatten masked_fill masked_select gather "
        "index_select index_add index_copy index_fill scatter scatter_add narrow abs relu neg triu tril roll where amax amin "
        "clamp clamp_min clamp_max topk unfold repeat_interleave cpu t view_as reshape_as type_as bernoulli movedim new_tensor "
        "stack cat addcmul square pow masked_scatter fill_ zero_ requires_grad_ to_dense pad max_pool1d "
        "max_pool2d logical_not unflatten swapaxes sort"
    ).split()
)
SHARED = frozenset("sum mean std var min max clip transpose reshape squeeze prod cumsum cumprod round dot repeat".split())
LEARNED = frozenset("mean std var div true_divide".split())  # of a tensor, floating-point ones
INTEGRAL = frozenset("long int bool byte short argmax argmin argsort eq ne gt lt ge le isnan isinf nonzero".split())
PICKING = frozenset("max min topk sort kthvalue mode median cummax cummin unique".split())  # also give indices
QUESTIONS = frozenset({"size", "dim", "numel"})  # methods that only tensors have
LAYERS = frozenset(
    (
        "Linear Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d LazyLinear LazyConv2d GRU LSTM RNN GRUCell "
        "LSTMCell RNNCell BatchNorm1d BatchNorm2d BatchNorm3d LayerNorm GroupNorm InstanceNorm1d InstanceNorm2d Sigmoid Tanh "
        "Softmax LogSoftmax Softplus GELU SiLU ELU LeakyReLU MultiheadAttention Dropout Dropout2d RMSNorm"
    ).split()
)
LOOKUPS = frozenset({"Embedding", "EmbeddingBag"})
PASSING = frozenset("ReLU Flatten Identity MaxPool1d MaxPool2d AvgPool2d AdaptiveAvgPool2d Unflatten".split())


class Kinds:
    """The kinds of the expressions of one function; `told` in the order of evaluation, operands first."""

    def __init__(self, frame: Frame, roles: Roles, called: bool, others: Callable[[Frame], Kinds]) -> None:
        self.frame, self.roles, self.called = frame, roles, called
        self.others = others  # gives the kinds of another function, which may be on their way
        self.known: dict[ast.AST, Kind] = {}
        self.named: dict[str, Kind] = {}
        self.early = False  # a caller was not read as far as its call

    def start(self) -> None:
        """Works out the parameters, before the statements."""
        if self.called:
            self.named = self._parameters()

    def of(self, node: ast.AST) -> Kind:
        """What is known of an expression."""
        return self.known.get(node, UNKNOWN)

    def told(self, node: ast.expr) -> None:
        """Works out an expression whose operands are known."""
        self.known[node] = self._kind(node)

    def bind(self, text: str, source: ast.expr | None, element: ast.expr | None) -> None:
        """Notes what a name holds from here on: a value, or an element of one, which may be the indices of `topk`."""
        kind = self.of(source) if source is not None else self.of(element) if element is not None else UNKNOWN
        picks = source is None and isinstance(element, ast.Call) and _last(element) in PICKING
        self.named[text] = min(kind, TENSOR) if picks else kind

    def back_to(self, named: dict[str, Kind]) -> dict[str, Kind]:
        """Goes on with what held before a path, and gives what holds at its end."""
        there, self.named = self.named, named
        return there

    def join(self, other: dict[str, Kind]) -> None:
        """Goes on with what holds on both of two paths."""
        both = {name: min(kind, other[name]) for name, kind in self.named.items() if name in other}
        self.named = other | self.named | both

    # parameters --------------------------------------------------------------------------------------

    def _parameters(self) -> dict[str, Kind]:
        """The parameters, as far as what is done with them before they are bound again tells."""
        node = self.frame.node
        if isinstance(node, ast.Module):
            return {}
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        found = {a.arg: TENSOR if dotted(a.annotation or a) in ("torch.Tensor", "Tensor") else UNKNOWN for a in given}
        looked = {name for name in found if name != self.frame.self_name}
        indices: set[str] = set()
        for stmt in own_statements(node.body):
            for part in header(stmt):
                for inner in ast.walk(part):
                    for name, kind in self._evidence(inner):
                        if name in looked:
                            found[name] = max(found[name], kind)
                            indices |= {name} if kind is TENSOR and self._layer(inner) in LOOKUPS else set()
            for bound in ast.walk(stmt) if not isinstance(stmt, ast.If | ast.With | ast.Try) else ():
                if isinstance(bound, ast.Name) and isinstance(bound.ctx, ast.Store):
                    looked.discard(bound.id)
        for name, kind in found.items():
            if name in indices:
                found[name] = min(kind, TENSOR)
            elif kind is not FLOATING and name != self.frame.self_name:
                passed = [(value, self.others(where)) for value, where in self.roles.passed(name, self.frame)]
                self.early = self.early or any(value not in kinds.known for value, kinds in passed)
                found[name] = max(kind, min((kinds.of(value) for value, kinds in passed), default=UNKNOWN))
        return found

    def _evidence(self, node: ast.AST) -> Iterator[tuple[str, Kind]]:
        """Names that must hold tensors for an expression to work."""
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult) and self.frame.owner is not None:
            yield from ((side.id, TENSOR) for side in (node.left, node.right) if isinstance(side, ast.Name))
        if not isinstance(node, ast.Call):
            return
        if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
            method = node.func.attr
            if method in FLOATS:
                yield node.func.value.id, TENSOR if method in WIDENING else FLOATING
            elif method in KEEPING | QUESTIONS or (method in SHARED and _with_dim(node)):
                yield node.func.value.id, TENSOR
        if not node.args or not isinstance(node.args[0], ast.Name):
            return
        name = self.roles.names.resolve(node.func)
        last = name.rpartition(".")[2]
        if name.startswith("torch.") and last in FLOATS - {"einsum", "embedding"}:
            yield node.args[0].id, TENSOR if last in WIDENING else FLOATING
        elif name.startswith("torch.") and last in (KEEPING | SHARED | LIKE) - {"stack", "cat", "where"}:
            yield node.args[0].id, TENSOR
        layer = self._layer(node)
        if layer in LAYERS | LOOKUPS | PASSING:
            yield node.args[0].id, FLOATING if layer in LAYERS else TENSOR

    # expressions -------------------------------------------------------------------------------------

    def _kind(self, node: ast.expr) -> Kind:
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
            return self._place(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.BinOp):
            sides = (self.of(node.left), self.of(node.right))
            fraction = any(isinstance(s, ast.Constant) and isinstance(s.value, float) for s in (node.left, node.right))
            real = fraction or isinstance(node.op, ast.Div | ast.MatMult)
            if isinstance(node.op, ast.MatMult) and self.frame.owner is not None:
                return TENSOR if sides == (TENSOR, TENSOR) else FLOATING
            if isinstance(node.op, ast.MatMult):
                return max(sides)
            return FLOATING if real and max(sides) is not UNKNOWN else max(sides)
        if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
            return self.of(node.operand)
        if isinstance(node, ast.Compare):
            return min(TENSOR, max(self.of(part) for part in (node.left, *node.comparators)))
        if isinstance(node, ast.IfExp):
            return min(self.of(node.body), self.of(node.orelse))
        if isinstance(node, ast.Tuple):
            return min((self.of(e) for e in node.elts), default=UNKNOWN)
        return self.of(node.value) if isinstance(node, ast.NamedExpr) else UNKNOWN

    def _place(self, node: ast.Name | ast.Attribute | ast.Subscript) -> Kind:
        text = dotted(node)
        if text in self.named:
            return self.named[text]
        if isinstance(node, ast.Subscript) or (isinstance(node, ast.Attribute) and node.attr in ("T", "mT", "data", "grad")):
            return self.of(node.value)
        if isinstance(node, ast.Attribute) and node.attr in ("weight", "bias") and self._built(node.value) in LAYERS | LOOKUPS:
            return FLOATING
        if not text or (isinstance(node, ast.Name) and node.id in self.frame.bindings):
            return UNKNOWN
        sources = [value for value, _ in self.roles.sources(text, self.frame)] or self.buffers(text)
        return min((self._made(value) for value in sources), default=UNKNOWN)

    def buffers(self, text: str) -> list[ast.expr]:
        """What `register_buffer` makes an attribute of the instance."""
        base, _, name = text.rpartition(".")
        if self.frame.owner is None or base != self.frame.self_name:
            return []
        methods = [m for info in self.roles.frames.family(self.frame.owner) for m in info.methods.values()]
        calls = [c for m in methods for c in m.calls if dotted(c.func) == f"{m.self_name}.register_buffer" and len(c.args) > 1]
        return [c.args[1] for c in calls if isinstance(c.args[0], ast.Constant) and c.args[0].value == name]

    def _made(self, value: ast.expr) -> Kind:
        """What a factory of torch makes; what else an attribute may hold is not followed."""
        if not isinstance(value, ast.Call):
            return UNKNOWN
        name = self.roles.names.resolve(value.func)
        return self._factory(value, name.rpartition(".")[2]) if name.startswith("torch.") else UNKNOWN

    def _factory(self, node: ast.Call, last: str) -> Kind:
        asked = self._asked(node)
        if last in MAKING:
            return asked if asked is not None else FLOATING
        return (asked or TENSOR) if last in WRAPPING else UNKNOWN

    def _call(self, node: ast.Call) -> Kind:
        name = self.roles.names.resolve(node.func)
        last = name.rpartition(".")[2]
        asked = self._asked(node)
        if name.startswith("torch."):
            first = max((self.of(a) for a in node.args), default=UNKNOWN)
            made = self._factory(node, last)
            if made is not UNKNOWN or asked is not None:
                return made or asked or UNKNOWN
            if last in MATMULS and node.args and all(self.of(a) is TENSOR for a in node.args):
                return TENSOR  # of integers, as far as is known
            if last in FLOATS or last in LEARNED:
                return FLOATING
            if last in INTEGRAL:
                return TENSOR
            return max(TENSOR, first) if last in KEEPING | SHARED | LIKE else UNKNOWN
        layer = self._layer(node)
        container = node.func if layer == "Sequential" else self._container(node.func)
        if container is not None:
            return FLOATING if self._learns(container) else UNKNOWN
        if layer:
            first = self.of(node.args[0]) if node.args else UNKNOWN
            return FLOATING if layer in LAYERS | LOOKUPS else max(TENSOR, first) if layer in PASSING else UNKNOWN
        targets = self._targets(node)
        if targets:
            return min((self._returned(target) for target in targets), default=UNKNOWN)
        if not isinstance(node.func, ast.Attribute) or self.roles.names.is_foreign(node.func):
            return UNKNOWN
        if dotted(node.func.value) == self.frame.self_name != "":
            return UNKNOWN
        return self._method(node, node.func, asked)

    def _targets(self, node: ast.Call) -> list[Frame]:
        """The functions of the file that a call runs: for a module's, its `forward`."""
        info = self.roles.class_of(dotted(node.func), self.frame) if dotted(node.func) else None
        if info is None or not self.roles.is_module(info):
            return self.roles.targets(node, self.frame)
        return [m.methods["forward"] for m in self.roles.frames.family(info) if "forward" in m.methods][:1]

    def _returned(self, target: Frame) -> Kind:
        """What a function of the file returns."""
        if isinstance(target.node, ast.Module) or target is self.frame:
            return UNKNOWN
        returns = [s.value for s in own_statements(target.node.body) if isinstance(s, ast.Return)]
        kinds = self.others(target)
        return min((kinds.of(value) if value is not None else UNKNOWN for value in returns), default=UNKNOWN)

    def _method(self, node: ast.Call, func: ast.Attribute, asked: Kind | None) -> Kind:
        method, receiver = func.attr, self.of(func.value)
        if method in ("float", "double", "half", "bfloat16"):
            return UNKNOWN if self.roles.of(func.value, self.frame) is Role.MODEL else FLOATING
        if method in ("to", "cuda", "clone", "type"):
            return receiver if asked is None else asked
        if method == "type_as" and node.args:
            return max(TENSOR, self.of(node.args[0]))
        if method in NEW and (receiver is not UNKNOWN or method != "new"):
            return asked if asked is not None else max(TENSOR, receiver)
        if method in MATMULS and receiver is TENSOR and all(self.of(a) is TENSOR for a in node.args):
            return TENSOR
        if method in FLOATS or (receiver is not UNKNOWN and method in LEARNED):
            return FLOATING
        if method in INTEGRAL and receiver is not UNKNOWN:
            return TENSOR
        known = method in KEEPING or (method in SHARED and _with_dim(node))
        if known and method in LEARNED:
            return FLOATING
        in_place = method.endswith("_") and method.removesuffix("_") in FLOATS | KEEPING
        if receiver is not UNKNOWN and (known or in_place or method in SHARED):
            return receiver
        return TENSOR if known else UNKNOWN

    def _layer(self, node: ast.AST) -> str:
        """The class of torch.nn whose instance is called."""
        return self._built(node.func) if isinstance(node, ast.Call) else ""

    def _built(self, node: ast.expr) -> str:
        """The class of torch.nn that a layer is of, the same wherever it comes from."""
        made = [v for v, _ in self.roles.sources(dotted(node), self.frame)] if dotted(node) else []
        names = {self.roles.names.resolve(v.func) if isinstance(v, ast.Call) else "" for v in made}
        name = names.pop() if len(names) == 1 else ""
        return name.rpartition(".")[2] if name.startswith("torch.nn.") else ""

    def _container(self, func: ast.expr) -> ast.expr | None:
        """The ModuleList or dict whose element is called: `self.layers[i](x)`, or the name of a loop over it."""
        if isinstance(func, ast.Subscript):
            return func.value
        bindings = self.frame.bindings.get(func.id, []) if isinstance(func, ast.Name) else []
        loops = [b for b in bindings if b.how == "for" and b.value is not None]
        if not loops or len(loops) < len(bindings):
            return None
        value, path = loops[0].value, loops[0].path
        if isinstance(value, ast.Call) and dotted(value.func) in ("enumerate", "zip") and path:
            at = path[0] if dotted(value.func) == "zip" else 0
            return value.args[at] if at < len(value.args) else None
        return value

    def _learns(self, node: ast.expr) -> bool:
        """Whether a container of layers has one that makes floating-point numbers."""
        text = dotted(node)
        made = [value for value, _ in self.roles.sources(text, self.frame)] if text else []
        if len(made) != 1 or not isinstance(made[0], ast.Call):
            return False
        if self.roles.names.resolve(made[0].func).rpartition(".")[2] not in ("Sequential", "ModuleList", "ModuleDict"):
            return False
        inner = [c for value in made for c in ast.walk(value) if isinstance(c, ast.Call)]
        names = [self.roles.names.resolve(c.func) for c in inner]
        return any(n.startswith("torch.nn.") and n.rpartition(".")[2] in LAYERS for n in names)

    def _asked(self, node: ast.Call) -> Kind | None:
        """What a dtype among the arguments asks for."""
        for argument in (*node.args, *(k.value for k in node.keywords)):
            found = DTYPES.get(self.roles.names.resolve(argument))
            if found is not None:
                return found
            if isinstance(argument, ast.Attribute) and argument.attr == "dtype":
                return self.of(argument.value) or TENSOR
        return None


def _last(node: ast.Call) -> str:
    """The last part of the name of what is called."""
    return node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)


def _with_dim(node: ast.Call) -> bool:
    """Whether a call has an argument that arrays of numpy would call `axis`."""
    return any(k.arg in ("dim", "keepdim") for k in node.keywords)
