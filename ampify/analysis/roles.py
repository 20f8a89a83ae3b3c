"""Roles: who is a model, an optimizer, a schedule or a loss, from what built it, how it is used, and last its name."""

from __future__ import annotations

import ast
import re
from enum import Enum

from ampify.analysis.frames import ClassInfo, Frame, Frames
from ampify.analysis.names import Names, dotted
from ampify.analysis.sources import FLUENT, Sources
from ampify.analysis.spelling import (
    LOSS_CLASS,
    LOSS_NAME,
    MODEL_NAME,
    NOT_A_MODEL,
    OPTIMIZER_CLASS,
    OPTIMIZER_NAME,
    SCHEDULER_CLASS,
    SCHEDULER_NAME,
    WRAPPER_CLASSES,
    WRAPPERS,
)

MODEL_METHODS = frozenset({"parameters", "named_parameters", "train", "eval", "modules", "children", "forward"})


class Role(Enum):
    """What a value is in a training step."""

    OPTIMIZER = "optimizer"
    WRAPPER = "wrapper"  # has an optimizer inside and a step of its own
    SCHEDULER = "scheduler"
    MODEL = "model"
    LOSS = "loss"
    OTHER = "other"
    UNKNOWN = "unknown"


class Roles(Sources):
    """Answers what an expression stands for, as seen from a frame: of its file alone, or `linked` with others by imports."""

    def __init__(self, names: Names, frames: Frames, linked: bool = False) -> None:
        super().__init__(names, frames, linked)
        self._memo: dict[tuple[str, Frame], Role] = {}  # each answer once, as in Sources
        self._calls: dict[ast.Call, Role] = {}

    def at(self, frame: Frame) -> Roles:
        """The roles of the file that a function is in."""
        return self if frame.home is self.frames else frame.home.file.roles

    def of(self, node: ast.expr, frame: Frame) -> Role:
        """The role of an expression; UNKNOWN without evidence."""
        if frame.home is not self.frames:
            return self.at(frame).of(node, frame)
        text = dotted(node)
        if not text:
            return self._of_value(node, frame)
        key = (text, frame)
        if key not in self._memo:
            self._memo[key] = Role.UNKNOWN
            self._memo[key] = self._of_name(text, frame)
        return self._memo[key]

    def _of_name(self, text: str, frame: Frame) -> Role:
        """By all that a name may hold, else by how it is used, and last by the name itself."""
        roles = [self._of_value(source, where) for source, where in self.sources(text, frame)]
        known = [r for r in roles if r not in (Role.UNKNOWN, Role.OTHER)]
        if known:
            return Role.WRAPPER if Role.WRAPPER in known else known[0]
        by_use = self._by_use(text, frame)
        if by_use is not Role.UNKNOWN:
            return by_use
        if roles and all(r is Role.OTHER for r in roles):
            return Role.OTHER
        # An imported name is a function, a class or a module: what it is called says nothing of an object.
        return Role.UNKNOWN if text in self.names.aliases and not roles else self._by_name(text)

    def _by_use(self, text: str, frame: Frame) -> Role:
        """By the methods that are called on it."""
        used = self.frames.methods_used(text, frame)
        if {"zero_grad", "step"} <= used and not used & {"parameters", "forward"}:
            return Role.OPTIMIZER
        if used & MODEL_METHODS and not used & {"step", "append", "fit"}:
            return Role.MODEL
        return Role.UNKNOWN

    @staticmethod
    def _by_name(text: str) -> Role:
        """What an object is that has such a name."""
        last = re.split(r"[.\[]", text.replace("]", ""))[-1].strip("'\"")
        schedules, optimizes = re.search(SCHEDULER_NAME, last), re.search(OPTIMIZER_NAME, last)
        if schedules and optimizes:
            return Role.UNKNOWN  # `warmup_opt` may be either, and to take an optimizer for a schedule would step it unscaled
        if schedules:
            return Role.SCHEDULER
        if optimizes:
            return Role.OPTIMIZER
        if re.search(LOSS_NAME, last):
            return Role.LOSS
        if re.search(MODEL_NAME, last):
            return Role.MODEL
        return Role.UNKNOWN

    def _of_value(self, node: ast.expr, frame: Frame) -> Role:
        if isinstance(node, ast.IfExp):
            first = self._of_value(node.body, frame)
            return first if first is not Role.UNKNOWN else self._of_value(node.orelse, frame)
        if dotted(node):
            return self.of(node, frame)
        if frame.home is not self.frames:
            return self.at(frame)._of_value(node, frame)
        if isinstance(node, ast.Call):
            if node not in self._calls:
                self._calls[node] = Role.UNKNOWN
                self._calls[node] = self._of_call(node, frame)
            return self._calls[node]
        if isinstance(node, (ast.Lambda, ast.Subscript, ast.Await)):
            return Role.UNKNOWN
        return Role.OTHER

    def _of_call(self, call: ast.Call, frame: Frame) -> Role:
        func = call.func
        if isinstance(func, ast.Attribute) and func.attr in FLUENT:
            return self._of_value(func.value, frame)
        name = self.callee(func)
        if name in WRAPPERS or name.rpartition(".")[2] in WRAPPER_CLASSES:
            return Role.MODEL
        role = self._of_torch(name)
        if role is not None:
            return role
        if name.rpartition(".")[2] in ("parse_args", "parse_known_args", "Namespace"):
            return Role.OTHER  # options, often called `opt`
        info = self.class_named(dotted(func))
        if dotted(func) and info is None and self.of(func, frame) in (Role.MODEL, Role.LOSS):
            return Role.OTHER  # what a model computes
        if info is not None:
            return self._of_class(info, call, frame)
        returned = [self._of_value(value, where) for value, where in self.returns(call, frame)]
        known = [r for r in returned if r not in (Role.UNKNOWN, Role.OTHER)]
        if known:
            return known[0]
        return self._of_foreign_class(name.rpartition(".")[2], call, frame)

    @staticmethod
    def _of_torch(name: str) -> Role | None:
        """What a class or function of torch makes, by its qualified name; None where it is of another library."""
        last = name.rpartition(".")[2]
        if name.startswith(("torch.optim.lr_scheduler.", "torch.optim.swa_utils.SWALR")):
            return Role.SCHEDULER
        if name == "torch.optim.swa_utils.AveragedModel":
            return Role.MODEL
        if name.startswith("torch.optim."):
            return Role.OPTIMIZER
        if name.startswith("torch.nn.") and last != "Parameter":
            if name.startswith(("torch.nn.functional.", "torch.nn.utils.", "torch.nn.init.")) or not (
                last[0].isupper() or last == "*"
            ):
                return Role.OTHER
            return Role.LOSS if last.endswith("Loss") else Role.MODEL
        if name.startswith(("torchvision.models.", "timm.create_model", "torch.hub.load")) or last == "from_pretrained":
            return Role.MODEL
        if name.startswith("torch."):
            return Role.OTHER
        return None

    def _of_class(self, info: ClassInfo, call: ast.Call, frame: Frame) -> Role:
        """What an instance of a class of the program is."""
        if self.is_module(info):
            return Role.LOSS if re.search(LOSS_CLASS, info.node.name) else Role.MODEL
        family = self.family(info)
        bases = {b for member in family for b in member.bases}
        if any(b.startswith("torch.optim.lr_scheduler") for b in bases):
            return Role.SCHEDULER
        if self.is_optimizer(info):
            return Role.OPTIMIZER
        methods = {m for member in family for m in member.methods}
        holds = any(self._of_value(a, frame) is Role.OPTIMIZER for a in _arguments(call))
        if holds and re.search(SCHEDULER_CLASS, info.node.name):
            return Role.SCHEDULER
        if holds and methods & {"step", "zero_grad"}:
            return Role.WRAPPER
        return Role.OTHER

    def is_module(self, info: ClassInfo) -> bool:
        """Whether a class of the file is an nn.Module, directly, through the file's classes, or by having `forward`."""
        family = self.family(info)
        if any(b.startswith("torch.nn.") for member in family for b in member.bases):
            return True
        bases = [(m.home.file.roles if self.linked else self, dotted(b)) for m in family for b in m.node.bases if dotted(b)]
        foreign = any(b != "object" and roles.class_named(b) is None for roles, b in bases)
        return foreign and any("forward" in member.methods for member in family) and not self.is_function(info)

    def is_optimizer(self, info: ClassInfo) -> bool:
        """Whether a class of the file is a torch optimizer."""
        bases = {b for member in self.family(info) for b in member.bases}
        return any(b.startswith("torch.optim.") or b.endswith("Optimizer") for b in bases)

    def is_function(self, info: ClassInfo) -> bool:
        """Whether a class is a torch.autograd.Function."""
        return any(
            b in ("torch.autograd.Function", "torch.autograd.function.Function") for m in self.family(info) for b in m.bases
        )

    def _of_foreign_class(self, last: str, call: ast.Call, frame: Frame) -> Role:
        """What an instance of a class is of which nothing but its name is known."""
        arguments = _arguments(call)
        if re.search(OPTIMIZER_CLASS, last) or (last[:1].isupper() and "optim" in last.lower()):
            if any(self._of_value(a, frame) is Role.OPTIMIZER for a in arguments):
                return Role.SCHEDULER if re.search(SCHEDULER_NAME, last) else Role.WRAPPER
            return Role.OPTIMIZER
        if last[:1].isupper() and (re.search(SCHEDULER_CLASS, last) or re.search(SCHEDULER_NAME, last)):
            return Role.SCHEDULER
        if last[:1].isupper() and re.search(LOSS_CLASS, last):
            return Role.LOSS
        wraps = last[:1].isupper() and not re.search(NOT_A_MODEL, last)
        if wraps and any(dotted(a) and self.of(a, frame) is Role.MODEL for a in arguments):
            return Role.MODEL  # a model round a model
        return Role.UNKNOWN


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(k.value for k in call.keywords)]
