"""Evidence: whether a value is a floating tensor for certain, and whether it may be complex.

`.float()` changes nothing in float32 only if the tensor is a floating one: integers would become floats, and complex numbers
lose a part. So both questions are answered on the safe side, from what an expression is made of.
"""

from __future__ import annotations

import ast

from ampify.analysis.frames import Frame
from ampify.analysis.names import dotted
from ampify.analysis.roles import Roles, element
from ampify.analysis.walk import walk

LOSSES = frozenset(
    (
        "cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss kl_div binary_cross_entropy_with_logits "
        "gaussian_nll_loss poisson_nll_loss cosine_embedding_loss margin_ranking_loss triplet_margin_loss soft_margin_loss "
        "hinge_embedding_loss multi_margin_loss multilabel_soft_margin_loss ctc_loss"
    ).split()
)
FLOATING = LOSSES | frozenset(  # what these give is floating, whatever they get
    (
        "float sigmoid softmax log_softmax softmin logsigmoid logsumexp exp expm1 log log10 log2 log1p sqrt rsqrt tanh erf sin "
        "cos mean std var norm softplus gelu silu elu selu layer_norm batch_norm group_norm normalize cosine_similarity "
        "pairwise_distance interpolate linear conv1d conv2d conv3d conv_transpose2d scaled_dot_product_attention log_prob "
        "grid_sample avg_pool1d avg_pool2d adaptive_avg_pool2d mish hardswish leaky_relu embedding gumbel_softmax cdist"
    ).split()
)
ARRAYS = frozenset({"mean", "std", "var"})  # of them, the methods that arrays of NumPy have too
PASSING = frozenset(  # these keep the kind of number
    (
        "detach cpu cuda to view view_as reshape squeeze unsqueeze flatten permute transpose t contiguous clone expand repeat "
        "sum abs clamp relu cumsum neg mul div add sub data T mT requires_grad_ pin_memory masked_fill index_select gather chunk "
        "split unbind dropout relu_ clamp_ flip roll cat stack"
    ).split()
)
SEVERAL = frozenset(
    "LSTM GRU RNN LSTMCell MultiheadAttention ModuleList ModuleDict ParameterList AdaptiveLogSoftmaxWithLoss".split()
)
SHAPING = frozenset("Identity Flatten Unflatten Dropout ReLU PixelShuffle ConstantPad2d ZeroPad2d MaxPool2d".split())
COMPLEX = frozenset(
    "torch.complex torch.polar torch.view_as_complex torch.stft torch.complex64 torch.complex128 torch.cfloat".split()
)
REAL = frozenset("abs angle real imag view_as_real irfft irfft2 irfftn hfft istft fftfreq rfftfreq norm item size shape".split())


class Evidence:
    """Answers for the expressions of one file."""

    def __init__(self, roles: Roles) -> None:
        self.roles, self.frames, self.names = roles, roles.frames, roles.names
        self._passed: bool | None = None

    # floating ----------------------------------------------------------------------------------------

    def floating(self, node: ast.expr, frame: Frame, met: frozenset[str] = frozenset()) -> bool:
        """Whether an expression is a floating tensor, or a number, for certain."""
        if isinstance(node, ast.Name | ast.Attribute | ast.Subscript):
            return self._part(node, frame, met) or (dotted(node) != "" and self._name(dotted(node), frame, met))
        if isinstance(node, ast.Constant):
            return isinstance(node.value, float)
        if isinstance(node, ast.UnaryOp):
            return self.floating(node.operand, frame, met)
        if isinstance(node, ast.BinOp):
            if isinstance(node.op, ast.FloorDiv | ast.Mod | ast.BitAnd | ast.BitOr | ast.BitXor):
                return False
            # A fraction of what is unknown, or a sum with a number, may be a number itself.
            sides = (side for side in (node.left, node.right) if not isinstance(side, ast.Constant))
            return any(self.floating(side, frame, met) for side in sides)
        if isinstance(node, ast.IfExp):
            return self.floating(node.body, frame, met) and self.floating(node.orelse, frame, met)
        if isinstance(node, ast.List | ast.Tuple):
            return bool(node.elts) and all(self.floating(e, frame, met) for e in node.elts)
        return isinstance(node, ast.Call) and self._call(node, (), frame, met)

    def _part(self, node: ast.expr, frame: Frame, met: frozenset[str]) -> bool:
        """Whether a part of a floating tensor is taken: an element, `.data`."""
        if isinstance(node, ast.Subscript):
            return self.floating(node.value, frame, met)
        return isinstance(node, ast.Attribute) and node.attr in PASSING and self.floating(node.value, frame, met)

    def _name(self, text: str, frame: Frame, met: frozenset[str]) -> bool:
        bound = [b for b in self.frames.lookup(text, frame) if b.how != "param" and not (b.value and self._array(b.value))]
        if not bound:
            return self._criticised(text, frame)
        key = f"{id(bound[0].frame)} {text}"
        if key in met:  # round a loop: whatever else it is made of decides, which of a parameter is unknown
            return all(b.how != "param" for b in self.frames.lookup(text, frame))
        lines = sorted(b.value.lineno for b in bound if b.value is not None)
        return all(
            b.value is not None
            and (
                (b.how == "assign" and self._bound(b.value, b.path, b.frame, met | {key}))
                or self._criticised(text, frame, b.value.lineno, next((n for n in lines if n > b.value.lineno), 0))
            )
            for b in bound
        )

    def _array(self, value: ast.expr) -> bool:
        """Whether an expression is an array of NumPy, so that a name that is asked about as a tensor is something else."""
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            return (
                value.func.attr == "numpy" or self.names.resolve(value.func).startswith("numpy.") or self._array(value.func.value)
            )
        return isinstance(value, ast.Call) and self.names.resolve(value.func).startswith("numpy.")

    def _bound(self, value: ast.expr, path: tuple[int, ...], frame: Frame, met: frozenset[str]) -> bool:
        value, path = element(value, path)
        if not path:
            return self.floating(value, frame, met)
        return isinstance(value, ast.Call) and self._call(value, path, frame, met)

    def _criticised(self, text: str, frame: Frame, first: int = 0, last: int = 0) -> bool:
        """Whether a loss of torch.nn takes a name as its input, or a backward starts from it, between the line where it is bound
        and the one where it is bound again."""
        for call in frame.calls:
            if call.lineno < first or (last and call.lineno > last):
                continue
            if self.is_loss(call, frame) and call.args and dotted(call.args[0]) == text:
                return True
            if isinstance(call.func, ast.Attribute) and call.func.attr == "backward" and dotted(call.func.value) == text:
                return True
            if dotted(call.func) == f"{self.names.scaler or 'scaler'}.scale" and call.args and dotted(call.args[0]) == text:
                return True
        return False

    def is_loss(self, call: ast.Call, frame: Frame) -> bool:
        """Whether a loss of torch.nn or torch.nn.functional is called."""
        name = self.names.resolve(call.func)
        if name.startswith("torch.nn.functional."):
            return name.rpartition(".")[2] in LOSSES
        kinds = self.layers(call.func, frame)
        return bool(kinds) and all(kind.endswith("Loss") for kind in kinds)

    def layers(self, func: ast.expr, frame: Frame) -> set[str]:
        """The classes of torch.nn that something called may be of; none if it may be of another."""
        found = {self.names.resolve(v.func) for v in self._built(func, frame)}
        kinds = {name.rpartition(".")[2] for name in found if name.startswith("torch.nn.") and ".functional." not in name}
        return kinds if len(kinds) == len(found) and all(k[:1].isupper() for k in kinds) else set()

    def _built(self, func: ast.expr, frame: Frame) -> list[ast.Call]:
        if isinstance(func, ast.Call):
            return [func]
        values = [v for v, _ in self.roles.sources(dotted(func), frame)] if dotted(func) else []
        found = []
        for value in values:
            while (
                isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in ("to", "cuda", "cpu")
            ):
                value = value.func.value
            if isinstance(value, ast.Call):
                found.append(value)
        return found

    def _call(self, call: ast.Call, path: tuple[int, ...], frame: Frame, met: frozenset[str]) -> bool:
        name = self.names.resolve(call.func)
        last = call.func.attr if isinstance(call.func, ast.Attribute) else name.rpartition(".")[2]
        outcomes = self._results(call, frame)
        if outcomes:
            key = f"{id(outcomes[0][1])} {path}"
            return key in met or all(self._bound(value, path, where, met | {key}) for value, where in outcomes)
        if path:
            return last in ("chunk", "split", "unbind") and self.floating(call, frame, met)
        kinds = self.layers(call.func, frame)
        if kinds:
            return all(self._layer(kind, call, frame, met) for kind in kinds)
        if self.names.is_foreign(call.func):
            return False
        if last in ARRAYS and isinstance(call.func, ast.Attribute) and not name.startswith("torch."):
            dimensions = any(k.arg in ("dim", "keepdim") for k in call.keywords)  # `axis` to arrays of NumPy
            return dimensions or self.floating(call.func.value, frame, met)
        if last in FLOATING:
            return name.startswith("torch.") or isinstance(call.func, ast.Attribute)
        if last in PASSING:
            if name.startswith("torch."):
                return bool(call.args) and self.floating(call.args[0], frame, met)
            return isinstance(call.func, ast.Attribute) and self.floating(call.func.value, frame, met)
        return False

    def _layer(self, kind: str, call: ast.Call, frame: Frame, met: frozenset[str]) -> bool:
        if kind == "Sequential":
            return all(self._chain(built) for built in self._built(call.func, frame))
        if kind in SHAPING:
            return bool(call.args) and self.floating(call.args[0], frame, met)
        return kind not in SEVERAL

    def _chain(self, built: ast.Call) -> bool:
        """Whether the last layer of a chain that shapes nothing only gives a floating tensor."""
        for layer in reversed(built.args):
            name = self.names.resolve(layer.func) if isinstance(layer, ast.Call) else ""
            kind = name.rpartition(".")[2]
            if not name.startswith("torch.nn.") or kind in SEVERAL:
                return False
            if kind not in SHAPING:
                return True
        return False

    def _results(self, call: ast.Call, frame: Frame) -> list[tuple[ast.expr, Frame]]:
        """What a function of the file, or the forward of a module of the file, may return."""
        found = self.roles.returns(call, frame)
        text = dotted(call.func)
        alone = text and not found and len({self.names.resolve(c.func) for c in self._built(call.func, frame)}) < 2
        info = self.roles.class_of(text, frame) if alone else None
        for member in self.frames.family(info) if info is not None else []:
            if "forward" in member.methods:
                where = member.methods["forward"]
                returned = [n.value for n in walk(where.node) if isinstance(n, ast.Return) and n.value is not None]
                return [(value, where) for value in returned]
        return found

    def several(self, node: ast.expr, frame: Frame, met: frozenset[str] = frozenset()) -> bool:
        """Whether an expression may be a tuple or list of tensors, of which each is what it is, or a plain number."""
        if isinstance(node, ast.Tuple | ast.List | ast.ListComp | ast.Constant):
            return True
        if isinstance(node, ast.IfExp):
            return self.several(node.body, frame, met) or self.several(node.orelse, frame, met)
        if isinstance(node, ast.Call):
            outcomes = self._results(node, frame)
            key = f"{id(outcomes[0][1])} returned" if outcomes else ""
            return key not in met and any(self.several(value, where, met | {key}) for value, where in outcomes)
        key = f"{id(frame)} {dotted(node)}"
        if not dotted(node) or key in met:
            return False
        bound = [b for b in self.frames.lookup(dotted(node), frame) if b.how == "assign" and b.value is not None]
        values = [(element(b.value, b.path), b.frame) for b in bound if b.value is not None]
        values = [v for v in values if not (isinstance(v[0][0], ast.Constant) and self._criticised(dotted(node), frame))]
        return any(self.several(value, where, met | {key}) for (value, path), where in values if not path)

    # complex -----------------------------------------------------------------------------------------

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
                isinstance(node, ast.Attribute | ast.Subscript) and self.complex(node.value, frame, met)
            )
        if isinstance(node, ast.Call):
            name = self.names.resolve(node.func)
            last = node.func.attr if isinstance(node.func, ast.Attribute) else name.rpartition(".")[2]
            if last in REAL:
                return False
            if name in COMPLEX or last in ("fft", "cfloat", "cdouble") or (name.startswith("torch.fft.") and "shift" not in last):
                return True
            outcomes = self._results(node, frame)
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
            known = method and isinstance(call.func, ast.Attribute) and call.func.attr in PASSING | FLOATING | REAL
            if not name.startswith(("torch.", "print", "len")) and not known:
                if any(self.complex(a, frame) for a in (*call.args, *(k.value for k in call.keywords))):
                    return True
        return False
