"""loops(): training scripts over the grammar of shapes that people write, small enough to train in milliseconds.

Each is deterministic, runs to its end, and steps at least one optimizer.
"""

from typing import Any

from hypothesis import strategies as st

from tests.fuzz.besides import Besides
from tests.fuzz.layout import Choices, Tree, habits, text
from tests.fuzz.pieces import Optimizer, Parts, Spelling, data, net, parts, spelling


@st.composite
def loops(draw: Any) -> bytes:
    """The source of one script."""
    choices = Choices(draw)
    tree = _Script(choices).tree()
    return text(tree, habits(choices), choices)


class _Script(Besides):
    def __init__(self, c: Choices) -> None:
        self.c = c
        self.spell: Spelling = spelling(c)
        self.style = c.one("module", "function", "main", "class", "class")
        self.owner = "self." if self.style == "class" else ""
        self.parts: Parts = parts(c, self.spell, self.owner)
        self.helpers: dict[str, Tree] = {}  # functions by name, in the order in which they are needed
        self.loss = c.one("loss", "err", "total_loss", "L")
        self.names = 0
        self.loop_before: Tree = []
        self.by_group = bool(self.parts.group) and c.chance(2)  # whether all optimizers go by their collection

    # the file ----------------------------------------------------------------------------------------

    def tree(self) -> Tree:
        c, p = self.c, self.parts
        target = "torch.randint(0, 4, (6,))" if p.classes else "torch.randn(6, 4)"
        made = [f"data = [(torch.randn(6, 4), {target}) for _ in range(4)]"]
        training = self.training()
        head: Tree = [*self.imports(), net(self.spell)]
        if c.chance(6):
            head.append(c.one("scaler = 2.0", "autocast = None", "scaler = object()"))
        if self.style == "class":
            methods: Tree = [("def __init__(self, data):", ["self.data = data", *p.setup])]
            methods += [item for body in self.helpers.values() for item in body]
            methods.append(("def fit(self):", training))
            calls = ["trainer = Trainer(data)", "trainer.fit()", *(["trainer.fit()"] if c.chance(4) else [])]
            models = [m.replace("self.", "trainer.") for m in p.models]
            opened = c.one("class Trainer:", "class Trainer(object):")
            tree: Tree = [*head, (opened, methods), "torch.manual_seed(1)", *made, *calls]
            return [*tree, *(f"kept_{i} = {m}" for i, m in enumerate(models))]
        helpers: Tree = [item for body in self.helpers.values() for item in body]
        if self.style == "module":
            before = c.chance(2)
            return [
                *head,
                *(helpers if before else []),
                "torch.manual_seed(1)",
                *made,
                *p.setup,
                *([] if before else helpers),
                *training,
            ]
        if self.style == "main":
            shown = [f"print(sum(float(p.sum()) for m in ({', '.join(p.models)},) for p in m.parameters()))"]
            main: tuple[str, Tree] = ("def main():", ["torch.manual_seed(1)", *made, *p.setup, *training, *shown])
            call: Tree = c.one(["main()"], [('if __name__ == "__main__":', ["main()"])])
            return [*head, *helpers, main, *call]
        return [*head, *helpers, *self.function(training, made)]

    def imports(self) -> Tree:
        head: Tree = list(
            self.c.one(
                [], [], ['"""Trains."""'], ['"""Trains.\n\n    loss.backward()\n"""', "from __future__ import annotations"]
            )
        )
        return [*head, "import io", "import math", *self.spell.imports]

    def function(self, training: Tree, made: list[str]) -> Tree:
        """A function that trains what it is given, under the same names, called with them by position or by name."""
        p = self.parts
        names = [line.partition(" = ")[0] for line in p.setup if " = " in line]
        setup = list(p.setup)
        header = f"def train({', '.join(['data', *names])}):"
        if self.c.chance(2):
            arguments = ", ".join(["data", *names])
        else:
            arguments = ", ".join(f"{n}={n}" for n in ["data", *names])
        return [(header, [*training, "return None"]), "torch.manual_seed(1)", *made, *setup, f"train({arguments})"]

    def fresh(self, stem: str) -> str:
        self.names += 1
        return f"{stem}_{self.names}" if self.names > 1 else stem

    def helper(self, stem: str, parameters: str, body: Tree) -> str:
        """Defines a function or a method; what it is called by."""
        name = self.fresh(stem)
        own = ["self"] if self.style == "class" else []
        self.helpers[name] = [(f"def {name}({', '.join([*own, *filter(None, [parameters])])}):", body)]
        return f"{self.owner}{name}"

    # loops -------------------------------------------------------------------------------------------

    def training(self) -> Tree:
        c = self.c
        loop = self.loop()
        if c.chance(6):
            loop += [*self.zeroing(self.parts.optimizers), *self.loop()] if not c.chance(4) else self.loop()
        if c.chance(4):
            loop += self.evaluation()
        if c.chance(4):
            loop += self.checkpoint()
        return loop

    def loop(self) -> Tree:
        c, p = self.c, self.parts
        batches = data(c, p.classes, f"{self.owner}data")
        self.loop_before = []
        body: Tree = [*batches.first]
        if c.chance(6):
            body.append((c.one("if x.sum() > 20:", "if len(x) == 0:", "if x is None:"), [c.one("continue", "break")]))
        body += self.iteration(batches.counted)
        body += self.afterwards()
        body = self.guarded(body)
        whole: Tree = [*self.loop_before, *batches.before, (batches.header, body)]
        per_epoch: Tree = []
        for schedule, _ in p.schedules:
            if c.chance(2):
                per_epoch.append(f"{schedule}.step()")
            else:
                self.at_end(whole, f"{schedule}.step()")
        if c.chance(8):
            per_epoch += self.evaluation()
        training = [f"{m}.train()" for m in p.models] if c.chance(4) else []
        if c.chance(3) and not per_epoch and not training:
            return whole
        header = c.one("for epoch in range(2):", "for epoch in range(1, 3):", "for _ in range(2):")
        return [(header, [*training, *whole, *per_epoch])]

    @staticmethod
    def at_end(whole: Tree, statement: str) -> None:
        last = whole[-1]
        assert isinstance(last, tuple)
        last[1].append(statement)

    def guarded(self, body: Tree) -> Tree:
        """The body of a loop, sometimes in a statement that changes how it is left."""
        c = self.c
        way = c.one(*["plain"] * 8, "raise", "interrupt", "finally", "skip", "enabled", "if", "else")
        if way == "plain":
            return body
        if way == "enabled":
            return [("with torch.enable_grad():", body)]
        if way == "if":
            return [("if len(x) > 1:", body)] if not self.reads_first(body) else body
        if way == "else":
            return [("if len(x) < 1:", ["continue"]), ("else:", body)] if not self.reads_first(body) else body
        if way == "finally":
            self.loop_before.append("seen = 0")
            return [("try:", body), ("finally:", ["seen += 1"])]
        handler = {
            "raise": ("except RuntimeError as error:", ["print(error)", "raise"]),
            "interrupt": ("except KeyboardInterrupt:", ["break"]),
            "skip": ("except RuntimeError:", ["continue"]),
        }[way]
        return [("try:", body), handler]

    @staticmethod
    def reads_first(body: Tree) -> bool:
        """Whether the batch is only made in the body."""
        head = [item if isinstance(item, str) else item[0] for item in body[:3]]
        return any(line.startswith(("x, y =", "x =", "step +=", "try:", "if step")) for line in head)

    # one iteration -----------------------------------------------------------------------------------

    def iteration(self, counted: bool) -> Tree:
        c, p = self.c, self.parts
        if c.chance(9) and len(p.optimizers) == 1 and not p.group:
            return self.closure()
        if len(p.optimizers) > 1 and not self.by_group and c.chance(3):
            return [item for o in c.order(p.optimizers) for item in self.phase((o,), o.models[:1], counted, several=True)]
        return self.phase(p.optimizers, p.models, counted)

    def phase(self, optimizers: tuple[Optimizer, ...], models: tuple[str, ...], counted: bool, several: bool = False) -> Tree:
        """Zeroing, forward, backward, looks at the gradients and steps, in one of their orders."""
        c = self.c
        gates = (
            ["always"] * 5
            + ["guard", "finite"]
            + (["accumulate"] * 3 if counted else [])
            + (["skip"] if counted and not several else [])
        )
        gate = c.one(*gates)
        zero = self.zeroing(optimizers)
        order = c.one("first", "middle", "last") if gate in ("always", "guard") else "last"
        if several and order == "last":
            order = "middle"  # the other phases' gradients reach these models too
        tree: Tree = list(zero) if order == "first" else []
        forward = self.forward(models)
        every = c.one(2, 3)
        if gate in ("accumulate", "skip"):
            forward.append(c.one(f"{self.loss} = {self.loss} / {every}", f"{self.loss} /= {every}"))
        backward = self.backward()
        step = [*self.looks(optimizers), *self.steps(optimizers)]
        after = list(zero) if order == "last" else []
        tree += forward
        tree += zero if order == "middle" else []
        if gate == "guard":
            test = c.one(
                f"if {self.loss}.item() < 1000:", f"if torch.isfinite({self.loss}):", f"if not math.isnan({self.loss}.item()):"
            )
            return [*tree, (test, [*backward, *step, *after])]
        if gate == "finite":
            norm = self.clip_norm(optimizers)
            test = c.one("if torch.isfinite(norm):", "if norm.item() < 1e4:", "if norm < 100:")
            steps: Tree = [(test, self.steps(optimizers))]
            if c.chance(3) and not several:
                steps = [("if not torch.isfinite(norm):", [*zero, "continue"]), *self.steps(optimizers)]
            return [*tree, *backward, f"norm = {norm}", *steps, *after]
        if gate == "accumulate":
            last = " or step == 3" if c.chance(3) else ""
            outside = self.looks(optimizers) if c.chance(12) else []
            return [*tree, *backward, *outside, (f"if (step + 1) % {every} == 0{last}:", [*step, *after])]
        if gate == "skip":
            return [*tree, *backward, (f"if (step + 1) % {every} != 0:", ["continue"]), *step, *after]
        return [*tree, *backward, *step, *after]

    def zeroing(self, optimizers: tuple[Optimizer, ...]) -> Tree:
        c, p = self.c, self.parts
        argument = c.one("", "", "set_to_none=True", "set_to_none=False")
        if self.by_group or (p.group and c.chance(12) and len(optimizers) == len(p.optimizers)):
            return [(f"for opt_z in {p.group}:", [f"opt_z.zero_grad({argument})"])]
        if c.chance(5):
            return [f"{m}.zero_grad({argument})" for o in optimizers for m in o.models]
        return [f"{o.name}.zero_grad({argument})" for o in optimizers]

    def steps(self, optimizers: tuple[Optimizer, ...]) -> Tree:
        c, p = self.c, self.parts
        if self.by_group or (p.group and c.chance(12) and len(optimizers) == len(p.optimizers)):
            return [(f"for opt_s in {p.group}:", ["opt_s.step()"])]
        lines: Tree = [f"{o.name}.step()" for o in c.order(optimizers)]
        if c.chance(12):
            if len(optimizers) == 1 and optimizers[0].name.isidentifier():
                name = self.helper("apply_step", "opt_h", ["opt_h.step()"])
                return [f"{name}({optimizers[0].name})"]
        if c.chance(12):
            return [("try:", lines), ("except ValueError:", ["raise"])]
        return lines

    # backward and after ------------------------------------------------------------------------------

    def backward(self) -> Tree:
        c, loss = self.c, self.loss
        if c.chance(10):
            name = self.helper("go_backward", "value", ["value.backward()"])
            return [f"{name}({loss})"]
        return c.one(
            [f"{loss}.backward()"],
            [f"{loss}.backward()"],
            [f"{loss}.backward()"],
            [f"({loss} * 2).backward()"],
            [f"{loss}.mean().backward()"],
            [f"torch.autograd.backward({loss})"],
            [f"torch.autograd.backward([{loss}])"],
            [f"{loss}.backward(retain_graph=True)"],
            [f"{loss}.backward(retain_graph=True)", f"({loss} * 0.5).backward()"],
            [f"{loss}.backward(torch.ones_like({loss}))"],
        )

    def clip_norm(self, optimizers: tuple[Optimizer, ...]) -> str:
        owned = [m for o in optimizers for m in o.models]
        of = " + ".join(f"list({m}.parameters())" for m in owned) if len(owned) > 1 else f"{owned[0]}.parameters()"
        return f"{self.spell.clip}clip_grad_norm_({of}, {self.c.one('0.5', 'max_norm=0.1', '1e9')})"

    def looks(self, optimizers: tuple[Optimizer, ...]) -> Tree:
        c = self.c
        if c.chance(2):
            return []
        owner = c.one(*[m for o in optimizers for m in o.models])
        form = c.one("norm", "norm", "value", "hand", "log", "noise", "helper", "if", "group", "freeze")
        if form == "norm":
            return [self.clip_norm(optimizers)]
        if form == "value":
            return [f"{self.spell.clip}clip_grad_value_({owner}.parameters(), 0.05)"]
        if form == "hand":
            change = c.one(
                "p.grad.clamp_(-0.1, 0.1)",
                "p.grad.mul_(0.5)",
                "p.grad.data.clamp_(-0.1, 0.1)",
                "p.grad /= 4",
                "p.grad = p.grad * 0.5",
            )
            return [(f"for p in {owner}.parameters():", c.one([("if p.grad is not None:", [change])], [change]))]
        if form == "log":
            return [f"print(sum(p.grad.norm().item() for p in {owner}.parameters() if p.grad is not None))"]
        if form == "noise":
            return [(f"for p in {owner}.parameters():", ["p.grad += 0.01 * torch.randn_like(p.grad)"])]
        if form == "helper":
            body: Tree = [("for p in module.parameters():", ["p.grad.clamp_(-0.1, 0.1)"])]
            return [f"{self.helper('limit', 'module', body)}({owner})"]
        if form == "if":
            return [(c.one("if x.mean() > 0:", "if len(x) > 2:"), [self.clip_norm(optimizers)])]
        if form == "group":
            name = c.one(*optimizers).name
            return [(f"for group in {name}.param_groups:", [("for p in group['params']:", ["p.grad.mul_(0.5)"])])]
        return [(f"for name, p in {owner}.named_parameters():", [("if 'bias' in name:", ["p.grad = None"])])]

    def closure(self) -> Tree:
        c, p = self.c, self.parts
        optimizer = p.optimizers[0]
        body = [*self.zeroing((optimizer,)), *self.forward(p.models), f"{self.loss}.backward()"]
        body += [self.clip_norm((optimizer,))] if c.chance(3) else []
        call = c.one(
            f"{optimizer.name}.step(closure)",
            f"value = {optimizer.name}.step(closure)",
            f"{optimizer.name}.step(closure=closure)",
        )
        return [("def closure():", [*body, f"return {self.loss}"]), call]
