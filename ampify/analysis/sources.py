"""Sources: the expressions that a name may hold, the functions that a call runs, and the classes that these are of."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.frames import Binding, ClassInfo, Frame, Frames
from ampify.analysis.names import Names, dotted
from ampify.analysis.walk import children
from ampify.program import first

Source = tuple[ast.expr, Frame]

# Methods that return the object they are called on.
FLUENT = frozenset({"to", "cuda", "cpu", "train", "eval", "double", "float", "half", "bfloat16", "apply", "requires_grad_"})


class Sources:
    """Answers what names hold and calls run, as seen from a frame: of their file alone, or `linked` with others by imports."""

    def __init__(self, names: Names, frames: Frames, linked: bool = False) -> None:
        self.names, self.frames, self.linked = names, frames, linked
        # Each answer is worked out once; while it is, a question that comes back to it gets "nothing known".
        self._sources: dict[tuple[str, Frame], list[Source]] = {}
        self._targets: dict[ast.Call, list[Frame]] = {}

    def at(self, frame: Frame) -> Sources:
        """The sources of the file that a function is in."""
        return self if frame.home is self.frames else frame.home.file.roles

    def sources(self, text: str, frame: Frame) -> list[Source]:
        """The expressions, other than plain names, that a name may hold: through aliases, parameters, returns and unpacking."""
        if frame.home is not self.frames:
            return self.at(frame).sources(text, frame)
        key = (text, frame)
        if key not in self._sources:
            self._sources[key] = []
            found: list[Source] = []
            for binding in self.frames.lookup(text, frame, self.linked):
                if binding.how == "param":
                    found.extend(s for value, where in self.passed(text, binding.frame) for s in self._follow(value, where))
                elif binding.how == "assign" and binding.value is not None:
                    found.extend(self._unfold(binding))
            if not found and text.endswith("]"):
                found.extend(self._element_of(text, frame))
            elif not found and "." in text and not text.startswith("self."):
                found.extend(self._attribute_of_instance(text, frame))
            if not found and self.linked and first(text) in self.names.aliases:
                found.extend(self._imported(text))
            self._sources[key] = list(dict.fromkeys(found))  # several ways to one: functions that hand on all that they get
        return self._sources[key]

    def _imported(self, text: str) -> list[Source]:
        """What another file's module level binds an imported name to."""
        target = self.frames.file.target(text)
        if target is None or target[0].frames is self.frames or not target[1]:
            return []
        return target[0].roles.sources(target[1], target[0].frames.module)

    def _unfold(self, binding: Binding) -> list[Source]:
        """The expressions behind one binding, taken out of tuples and out of what a function returns."""
        assert binding.value is not None
        value, path = element(binding.value, binding.path)
        if not path:
            return self._follow(value, binding.frame)
        found = []
        for expression, where in self.returns(value, binding.frame):
            inner, rest = element(expression, path)
            if not rest:
                found.extend(self._follow(inner, where))
        return found

    def _follow(self, value: ast.expr, frame: Frame) -> list[Source]:
        """The expressions behind one: its arms, or what the name that it is may hold."""
        if isinstance(value, ast.IfExp):
            return self._follow(value.body, frame) + self._follow(value.orelse, frame)
        text = dotted(value)
        return self.sources(text, frame) if text else [(value, frame)]

    def passed(self, name: str, frame: Frame) -> list[Source]:
        """What callers pass for a parameter of a function."""
        if frame.home is not self.frames:
            return self.at(frame).passed(name, frame)
        positional = self.positional(frame)
        found: list[Source] = []
        for call, where in self.frames.callers(frame, self.linked):
            at = positional.index(name) if name in positional else -1
            passed = [k.value for k in call.keywords if k.arg == name]
            if not passed and 0 <= at < len(call.args) and not any(isinstance(a, ast.Starred) for a in call.args[: at + 1]):
                passed = [call.args[at]]
            found.extend((value, where) for value in passed)
        return found

    def positional(self, frame: Frame) -> list[str]:
        """The parameters of a function that may be passed by their position, without the instance of a method."""
        node = frame.node
        assert not isinstance(node, ast.Module)
        bound = frame.owner is not None and not self.is_static(frame)
        return [a.arg for a in (*node.args.posonlyargs, *node.args.args)][bound:]

    @staticmethod
    def is_static(frame: Frame) -> bool:
        """Whether a function is a method that gets no instance."""
        node = frame.node
        return not isinstance(node, ast.Module) and any(dotted(d) == "staticmethod" for d in node.decorator_list)

    def _element_of(self, text: str, frame: Frame) -> list[Source]:
        """`optimizers[0]` or `optimizers['g']`, where the list, tuple or dict is written out."""
        node = ast.parse(text, mode="eval").body
        bindings = self.frames.lookup(dotted(node.value), frame) if isinstance(node, ast.Subscript) else []
        value = bindings[0].value if len(bindings) == 1 and bindings[0].how == "assign" and not bindings[0].path else None
        index = node.slice.value if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) else None
        if isinstance(value, (ast.Tuple, ast.List)) and type(index) is int and 0 <= index < len(value.elts):
            return self._follow(value.elts[index], bindings[0].frame)
        if isinstance(value, ast.Dict):
            pairs = zip(value.keys, value.values, strict=True)
            return [s for k, v in pairs if getattr(k, "value", None) == index for s in self._follow(v, bindings[0].frame)]
        return []

    def _attribute_of_instance(self, text: str, frame: Frame) -> list[Source]:
        """`trainer.optimizer`, where `trainer` is an instance of a class of this file."""
        base, _, attribute = text.rpartition(".")
        info = self.class_of(base, frame)
        if info is None:
            return []
        found = []
        for member in self.family(info):
            for binding in member.attributes.get(f"self.{attribute}", ()):
                if binding.how == "assign":
                    found.extend(self._unfold(binding))
        return found

    def class_of(self, text: str, frame: Frame) -> ClassInfo | None:
        """The class of this file that a name is an instance of."""
        method = frame.method
        if method is not None and text == method.self_name:
            return method.owner
        return next(self._classes_of(text, frame), None)

    def _classes_of(self, text: str, frame: Frame) -> Iterator[ClassInfo]:
        """The classes that a name may be an instance of."""
        for value, where in self.sources(text, frame):
            while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in FLUENT:
                value = value.func.value
            info = self.at(where).class_named(dotted(value.func)) if isinstance(value, ast.Call) else None
            if info is not None:
                yield info

    def _methods(self, name: str, receiver: str, frame: Frame) -> list[Frame]:
        """The methods that a call on a name may run: of the instance's own also those that subclasses have in their place."""
        method = frame.method
        if method is None or method.owner is None or receiver != method.self_name:
            found = [self._inherited(name, info) for info in self._classes_of(receiver, frame)]
        else:
            found = [self._inherited(name, method.owner)]
            found += [self._inherited(name, info) for info in self.frames.subclasses(method.owner, self.linked)]
        return list(dict.fromkeys(f for f in found if f is not None))

    def _next(self, name: str, owner: ClassInfo) -> list[Frame]:
        """The methods that `super()` may mean in a class: those behind its own, in it or in a class that it is mixed into."""
        found = []
        for info in (owner, *self.frames.subclasses(owner, self.linked)):
            family = self.family(info)
            behind = family[family.index(owner) + 1 :] if owner in family else []
            found += [b.methods[name] for b in behind if name in b.methods][:1]
        return list(dict.fromkeys(found))

    def _inherited(self, name: str, info: ClassInfo) -> Frame | None:
        """The method that a class has by a name, its own or a base's."""
        return next((m.methods[name] for m in self.family(info) if name in m.methods), None)

    def returns(self, call: ast.expr, frame: Frame) -> list[Source]:
        """The expressions that a call of a function of this file may return."""
        if not isinstance(call, ast.Call):
            return []
        found: list[Source] = []
        for target in self.targets(call, frame):
            stack: list[ast.AST] = list(getattr(target.node, "body", ()))
            while stack:
                node = stack.pop()
                if isinstance(node, ast.Return) and node.value is not None:
                    found.append((node.value, target))
                if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
                    stack.extend(children(node))
        return found

    def targets(self, call: ast.Call, frame: Frame) -> list[Frame]:
        """The functions or methods of this file that a call runs, as far as names tell."""
        if frame.home is not self.frames:
            return self.at(frame).targets(call, frame)
        if call not in self._targets:
            self._targets[call] = []
            self._targets[call] = self._find_targets(call, frame)
        return self._targets[call]

    def class_named(self, text: str) -> ClassInfo | None:
        """The class that a name stands for."""
        return self.frames.file.class_named(text) if self.linked else self.frames.classes.get(text)

    def family(self, info: ClassInfo) -> list[ClassInfo]:
        """A class and those of its bases that are known."""
        return self.frames.everywhere(info) if self.linked else self.frames.family(info)

    def _functions_named(self, text: str) -> list[Frame]:
        return self.frames.file.functions_named(text) if self.linked else self.frames.functions.get(text, [])

    def _find_targets(self, call: ast.Call, frame: Frame) -> list[Frame]:
        """Looks for the function of that name, or the method of the class that the receiver is of."""
        func = call.func
        if isinstance(func, ast.Name):
            return [] if self.class_named(func.id) is not None else self._functions_named(func.id)
        if isinstance(func, ast.Attribute):
            if first(dotted(func)) in self.names.imported and (functions := self._functions_named(dotted(func))):
                return functions
            receiver = dotted(func.value)
            info = self.class_of(receiver, frame) if receiver else None
            if info is None and isinstance(func.value, ast.Call) and dotted(func.value.func) == "super":
                method = frame.method
                return self._next(func.attr, method.owner) if method is not None and method.owner is not None else []
            if info is not None:
                return self._methods(func.attr, receiver, frame)
        return []

    def callee(self, func: ast.expr, depth: int = 4) -> str:
        """The qualified name of what is called, looking through `getattr(module, name)`, `module.__dict__[name]`,
        `vars(module)[name]`, and through what picks or prepares one of several optimizer classes."""
        if isinstance(func, ast.Call) and dotted(func.func) == "getattr" and func.args:
            return f"{self.names.resolve(func.args[0])}.*"
        if isinstance(func, ast.Subscript):
            base = func.value
            if isinstance(base, ast.Attribute) and base.attr == "__dict__":
                return f"{self.names.resolve(base.value)}.*"
            if isinstance(base, ast.Call) and dotted(base.func) == "vars" and base.args:
                return f"{self.names.resolve(base.args[0])}.*"
        classes = {self.callee(choice, depth - 1) for choice in self._choices(func)} if depth else set()
        if classes and all(name.startswith("torch.optim.") for name in classes):
            return classes.pop() if len(classes) == 1 else "torch.optim.*"
        return self.names.resolve(func)

    def _choices(self, func: ast.expr) -> list[ast.expr]:
        """What an expression that is called may be: the values of a table, the arms of a condition, the function of a partial."""
        if isinstance(func, ast.IfExp):
            return [func.body, func.orelse]
        if isinstance(func, ast.Name):
            known = func.id not in self.names.arguments and func.id not in self.names.aliases
            return self.names.assigned.get(func.id, []) if known else []
        if isinstance(func, ast.Call):
            if self.names.resolve(func.func) in ("functools.partial", "partial"):
                return func.args[:1]
            picks = isinstance(func.func, ast.Attribute) and func.func.attr == "get"
            table: ast.expr | None = func.func.value if picks and isinstance(func.func, ast.Attribute) else None
            others = func.args[1:]
        else:
            table, others = func.value if isinstance(func, ast.Subscript) else None, []
        if isinstance(table, ast.Name) and len(self.names.assigned.get(table.id, ())) == 1:
            table = self.names.assigned[table.id][0]
        return [*table.values, *others] if isinstance(table, ast.Dict) else []


def element(value: ast.expr, path: tuple[int, ...]) -> tuple[ast.expr, tuple[int, ...]]:
    """Follows a path of unpacking into tuples as far as they are written out; returns what is left of the path too."""
    while path and isinstance(value, (ast.Tuple, ast.List)) and path[0] < len(value.elts):
        value, path = value.elts[path[0]], path[1:]
    return value, path
