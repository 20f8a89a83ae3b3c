"""Arguments: what the calls of the old packages' names have to hand on in torch.amp."""

from __future__ import annotations

import ast

from ampify.migration.layout import Layout, span
from ampify.migration.legacy import AUTOCAST, DTYPES
from ampify.migration.references import Reference, References
from ampify.plan.edits import Replace

Edits = tuple[str, list[Replace]]  # why not, or what to write
FOLLOWED = frozenset({"call", "decorator", "partial", "type", "test", "base", "made", "none"})
UNSEEN = "is handed on, and how it is called there cannot be seen"
STARRED = "takes positional arguments out of a list, whose order torch.amp has changed"


class Arguments:
    """What is written round the arguments of a file."""

    def __init__(self, layout: Layout, references: References) -> None:
        self.layout, self.references = layout, references
        self.scopes = references.scopes
        self.asked = self._asked()

    def edits(self, reference: Reference) -> Edits:
        """What has to be written besides the name, or why the reference is left alone."""
        role = self.references.role(reference)
        found = reference.symbol
        further = self.scopes.parents.get(reference.node)
        if isinstance(further, ast.Attribute):
            method = found.name in ("GradScaler", "OptState") and not further.attr.startswith("_")
            if not method and not self._is_init(reference, further):
                return f"is asked for its `{further.attr}`", []
            return "", []
        if role not in FOLLOWED:
            return UNSEEN, []
        call = further
        if found.name in ("custom_fwd", "custom_bwd"):
            return self._custom(reference, role)
        if found.name == "_cast":
            ok = role == "call" and isinstance(call, ast.Call) and len(call.args) == 2 and not _starred(call)
            if not ok or not isinstance(call, ast.Call) or call.keywords:
                return UNSEEN, []
            return "", [self.layout.first(call, self._device(reference), 1)]
        if found.name == "OptState":
            return ("", []) if role != "call" else (UNSEEN, [])
        if found.name == "GradScaler":
            return self._scaler(reference, role)
        return self._autocast(reference, role)

    def _device(self, reference: Reference) -> str:
        return self.layout.quoted(reference.symbol.device)

    # scalers ---------------------------------------------------------------------------------------------

    def _scaler(self, reference: Reference, role: str) -> Edits:
        parent = self.scopes.parents[reference.node]
        if role == "decorator":
            return UNSEEN, []
        if role == "type" and len({r.symbol.device for r in self.references.known if r.symbol.name == "GradScaler"}) > 1:
            return "tells scalers of one device from those of another, which torch.amp does not", []
        if role == "base":
            assert isinstance(parent, ast.ClassDef)
            return self._subclass(reference, parent)
        if role in ("call", "partial"):
            assert isinstance(parent, ast.Call)
            if _lone(parent):
                return "is called with a generator", []
            return "", [self.layout.first(parent, self._device(reference), int(role == "partial"))]
        return "", []

    def _subclass(self, reference: Reference, cls: ast.ClassDef) -> Edits:
        """A class of scalers hands the device on where it calls the constructor of its base."""
        if len(cls.bases) > 1 or cls.keywords:
            return "is one base among others, whose constructors cannot be told", []
        init = [s for s in cls.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"]
        if any(isinstance(s, (ast.FunctionDef, ast.AsyncFunctionDef)) and s.name == "__new__" for s in cls.body):
            return "has a subclass with a `__new__` of its own", []
        if len(init) != len([n for s in cls.body for n in ast.walk(s) if getattr(n, "name", "") == "__init__"]):
            return "has a subclass whose constructor cannot be followed", []
        edits = []
        for function in init:
            inits = [n for n in ast.walk(function) if isinstance(n, ast.Attribute) and n.attr == "__init__"]
            for attribute in inits:
                call = self.scopes.parents[attribute]
                if not isinstance(call, ast.Call) or call.func is not attribute:
                    return "has a subclass whose constructor cannot be followed", []
                behind = self._handed(attribute, reference)
                if behind is None:
                    return "has a subclass whose constructor cannot be followed", []
                edits.append(self.layout.first(call, self._device(reference), behind))
        return "", edits

    def _handed(self, attribute: ast.Attribute, reference: Reference) -> int | None:
        """How many arguments stand ahead of the constructor's own; None where it is another's."""
        base = attribute.value
        if isinstance(base, ast.Call) and isinstance(base.func, ast.Name) and base.func.id == "super":
            return 0
        return 1 if ast.unparse(base) == ast.unparse(reference.node) else None

    def _is_init(self, reference: Reference, attribute: ast.Attribute) -> bool:
        """Whether `GradScaler.__init__` is called by a subclass, which is looked at there."""
        return attribute.attr == "__init__" and any(
            isinstance(each, ast.ClassDef) and any(ast.unparse(b) == ast.unparse(reference.node) for b in each.bases)
            for each in self.scopes.ancestors(attribute)
        )

    # regions ---------------------------------------------------------------------------------------------

    def _autocast(self, reference: Reference, role: str) -> Edits:
        parent = self.scopes.parents[reference.node]
        if role == "decorator":
            return "decorates without parentheses, so that the function is taken for `enabled`", []
        if role == "base":
            return "has a subclass, whose constructor is not followed", []
        if role not in ("call", "partial"):
            return "", []
        assert isinstance(parent, ast.Call)
        behind = int(role == "partial")
        arguments = parent.args[behind:]
        if _starred(parent):
            return STARRED, []
        if role == "partial" and (len(arguments) > 1 or not (arguments or any(k.arg == "enabled" for k in parent.keywords))):
            return "is called later with arguments that cannot be seen, whose order torch.amp has changed", []
        if _lone(parent) or any(isinstance(a, ast.NamedExpr) for a in arguments) or len(arguments) > len(AUTOCAST):
            return "has arguments that cannot be named", []
        slots = self.layout.slots(parent).arguments
        edits = []
        for (start, _), keyword in zip(slots[behind:], AUTOCAST[: len(arguments)], strict=False):
            edits.append(Replace(start, start, f"{keyword}="))
        device = self._device(reference)
        why, more = self._granted(parent, reference.symbol.device, AUTOCAST[: len(arguments)], _is_off(parent, arguments))
        if why:
            return why, []
        if len(slots) == behind:
            return "", [self.layout.last(parent, ", ".join([device, *more]))]
        return "", [
            self.layout.first(parent, device, behind),
            *edits,
            *([self.layout.last(parent, ", ".join(more))] if more else ()),
        ]

    def _granted(self, call: ast.Call, device: str, positional: tuple[str, ...], off: bool) -> tuple[str, list[str]]:
        """What the old constructor takes for granted, and torch.amp's takes from the region around, if there is another."""
        named = {k.arg for k in call.keywords}.union(positional)
        asked = {p for p, other, by in self.asked if by is not call and other in (device, "")}
        if "" in asked and None not in named:
            asked |= {"dtype", "cache_enabled"}
        wanted = asked - named - {""}
        if off or not wanted:
            return "", []
        if None in named:
            return "takes keywords out of a dict, beside regions that ask for another dtype or cache", []
        more = ["cache_enabled=True"] if "cache_enabled" in wanted else []
        if "dtype" in wanted:
            torch = next((b.name for b in self.scopes.bindings if b.top and b.targets() == {"torch"}), "")
            if not torch:
                return "takes its dtype for granted, beside regions of another, and no name for torch is at hand", []
            more.insert(0, f"dtype={torch}.{DTYPES[device]}")
        return "", more

    def _asked(self) -> list[tuple[str, str, ast.AST]]:
        """What regions of the file ask for besides what is granted, of which device, and where; empty texts for what comes out of
        a dict, and for any device."""
        old = {r.node: r.symbol.device for r in self.references.known if r.symbol.name == "autocast"}
        found: list[tuple[str, str, ast.AST]] = []
        for node in self.scopes.parents:
            if isinstance(node, ast.Attribute) and node.attr.startswith("set_autocast_"):
                ends = (("cache_enabled", "_cache_enabled"), ("dtype", "_dtype"))
                found += [(p, "", node) for p, end in ends if node.attr.endswith(end)]
            elif isinstance(node, ast.Call):
                new = self.references.text(node.func) in (
                    "torch.autocast",
                    "torch.amp.autocast",
                    "torch.amp.autocast_mode.autocast",
                )
                behind = int(any(argument in old for argument in node.args))
                if new or behind or node.func in old:
                    order = ("device_type", "dtype", "enabled", "cache_enabled") if new else AUTOCAST
                    given = [*zip(order, node.args[behind:], strict=False), *((k.arg or "", k.value) for k in node.keywords)]
                    devices = [old[n] for n in (node.func, *node.args) if n in old]
                    devices += [str(getattr(v, "value", "")) for p, v in given if p == "device_type"]
                    device = devices[0] if devices else ""
                    found += [(p, device, node) for p, v in given if not self._is_granted(p, v, device)]
        return found

    def _is_granted(self, parameter: str, value: ast.expr, device: str) -> bool:
        """Whether an argument changes nothing for regions inside."""
        if parameter == "cache_enabled":
            return isinstance(value, ast.Constant) and value.value is True
        if parameter == "dtype":
            text = self.references.text(value).replace("torch.half", "torch.float16")
            return text == f"torch.{DTYPES.get(device, '')}"
        return parameter != ""

    # custom functions ------------------------------------------------------------------------------------

    def _custom(self, reference: Reference, role: str) -> Edits:
        device = f"device_type={self._device(reference)}"
        end = span(reference.node)[1]
        parent = self.scopes.parents[reference.node]
        if role == "decorator":
            return "", [Replace(end, end, f"({device})")]
        if role in ("call", "partial"):
            assert isinstance(parent, ast.Call)
            if _lone(parent):
                return "is called with a generator", []
            if any(k.arg is None for k in parent.keywords):
                return "takes keywords out of a dict", []
            return "", [self.layout.last(parent, device)]
        return ("", []) if role in ("test", "made", "none") else (UNSEEN, [])


def _starred(call: ast.Call) -> bool:
    return any(isinstance(argument, ast.Starred) for argument in call.args)


def _lone(call: ast.Call) -> bool:
    """Whether the only argument is a generator in the call's own parentheses."""
    return len(call.args) == 1 and not call.keywords and isinstance(call.args[0], ast.GeneratorExp)


def _is_off(call: ast.Call, arguments: list[ast.expr]) -> bool:
    """Whether a region is one that autocast is off in."""
    values = [*arguments[:1], *(k.value for k in call.keywords if k.arg == "enabled")]
    return any(isinstance(v, ast.Constant) and v.value is False for v in values)
