"""Forward passes and losses of generated loops, in the forms that people give them."""

from tests.fuzz.layout import Choices, Tree
from tests.fuzz.pieces import Parts, Spelling


class Losses:
    """What a script's loops compute; the script says of what, and takes the functions for it."""

    c: Choices
    spell: Spelling
    parts: Parts
    style: str
    loss: str  # the name that every forward leaves its loss in

    def helper(self, stem: str, parameters: str, body: Tree) -> str:
        raise NotImplementedError

    def output(self, models: tuple[str, ...]) -> str:
        c = self.c
        if len(models) == 1:
            return f"{models[0]}(x)"
        return c.one(f"{models[1]}({models[0]}(x))", f"{models[0]}(x) + {models[1]}(x)", f"{models[1]}({models[0]}(x).relu())")

    def criterion(self, output: str) -> str:
        c, p, f = self.c, self.parts, self.spell.functional
        if p.criterion and c.chance(2):
            return f"{p.criterion}({output}, y)"
        if p.classes:
            return c.one(f"{f}.cross_entropy({output}, y)", f"{f}.nll_loss({f}.log_softmax({output}, dim=1), y)")
        return c.one(
            f"{f}.mse_loss({output}, y)",
            f"(({output} - y) ** 2).mean()",
            f"({output} - y).pow(2).sum(1).mean()",
            f"{f}.smooth_l1_loss({output}, y)",
            f"{f}.binary_cross_entropy_with_logits({output}, y.sigmoid())",
            f"({output} - y).abs().mean()",
        )

    def forward(self, models: tuple[str, ...]) -> Tree:
        """Statements that leave the loss in its name."""
        c, loss = self.c, self.loss
        output = self.output(models)
        form = c.one(
            "two",
            "two",
            "inline",
            "branches",
            "augmented",
            "helper",
            "summed",
            "listed",
            "dict",
            "picked",
            "penalty",
            "l2",
            "lambda",
            "with",
        )
        if form == "two":
            name = c.one("out", "pred", "logits", "y_hat")
            return [f"{name} = {output}", f"{loss} = {self.criterion(name)}"]
        if form == "branches":
            test = c.one("if y.sum() > 0:", "if x.mean() > 0:", "if len(x) > 3:")
            tree: Tree = [f"out = {output}", (test, [f"{loss} = {self.criterion('out')}"])]
            return [*tree, ("else:", [f"{loss} = {self.criterion('out')} * 0.5"])]
        if form == "augmented":
            more = c.one(f"{loss} += 0.1 * out.pow(2).mean()", f"{loss} = {loss} + 0.01 * out.abs().sum()")
            tree = [f"out = {output}", f"{loss} = {self.criterion('out')}"]
            return [*tree, (c.one("if x.mean() > 0:", "if True:"), [more])] if c.chance(2) else [*tree, more]
        if form == "helper":
            return self.loss_helper(models)
        if form == "summed":
            zero = c.one("0", "0.0", "torch.zeros(())")
            return [f"{loss} = {zero}", ("for part in range(2):", [f"{loss} = {loss} + {self.criterion(self.output(models))}"])]
        if form == "listed":
            tree = ["losses = []", ("for part in (1.0, 0.5):", [f"losses.append(part * {self.criterion(self.output(models))})"])]
            return [*tree, f"{loss} = {c.one('sum(losses)', 'torch.stack(losses).sum()', 'torch.stack(losses).mean()')}"]
        if form == "dict":
            tree = [f"out = {output}", f'losses = {{"main": {self.criterion("out")}, "size": 0.1 * out.pow(2).mean()}}']
            return [
                *tree,
                f"{loss} = {c.one('sum(losses.values())', 'losses[' + repr('main') + '] + losses[' + repr('size') + ']')}",
            ]
        if form == "picked":
            return [f"out = {output}", f"{loss} = {self.criterion('out')} if x.mean() > 0 else {self.criterion('out')} * 2"]
        if form == "penalty":
            return self.penalty(models)
        if form == "l2":
            tree = [f"{loss} = {self.criterion(output)}"]
            return [*tree, f"{loss} = {loss} + 1e-3 * sum(p.pow(2).sum() for p in {models[0]}.parameters())"]
        if form == "lambda":
            return [f"compute = lambda: {self.criterion(output)}", f"{loss} = compute()"]
        if form == "with":
            header = c.one("with torch.set_grad_enabled(True):", "with torch.enable_grad():")
            return [(header, [f"out = {output}", f"{loss} = {self.criterion('out')}"])]
        return [f"{loss} = {self.criterion(output)}"]

    def loss_helper(self, models: tuple[str, ...]) -> Tree:
        if self.style == "class":
            name = self.helper("compute_loss", "x, y", [f"out = {self.output(models)}", f"return {self.criterion('out')}"])
            return [f"{self.loss} = {name}(x, y)"]
        # Only what is handed in can be named here.
        kept, self.parts = self.parts, self.parts._replace(criterion="")
        inner = tuple(f"net_{i}" for i in range(len(models)))
        body: Tree = [f"out = {self.output(inner)}", f"return {self.criterion('out')}"]
        self.parts = kept
        name = self.helper("compute_loss", ", ".join([*inner, "x", "y"]), body)
        return [f"{self.loss} = {name}({', '.join([*models, 'x', 'y'])})"]

    def penalty(self, models: tuple[str, ...]) -> Tree:
        """A loss with a gradient penalty: on the inputs, or on the parameters."""
        c, loss = self.c, self.loss
        if c.chance(2):
            tree: Tree = [f"{loss} = {self.criterion(self.output(models))}"]
            of = f"list({models[0]}.parameters())"
            tree.append(f"grads = {self.spell.grad}({loss}, {of}, create_graph=True{c.one('', ', allow_unused=True')})")
            tree.append("penalty = sum(g.pow(2).sum() for g in grads if g is not None)")
            return [*tree, f"{loss} = {loss} + 0.01 * penalty"]
        tree = ["x_in = x.clone().requires_grad_(True)", f"score = {models[0]}(x_in)"]
        outputs = c.one("outputs=score.sum(), inputs=x_in", "score, x_in, torch.ones_like(score)", "score.sum(), x_in")
        tree.append(f"grads = {self.spell.grad}({outputs}, create_graph=True)[0]")
        tree.append(f"penalty = {c.one('((grads.norm(2, dim=1) - 1) ** 2).mean()', 'grads.pow(2).sum()')}")
        return [*tree, f"{loss} = {self.criterion(self.output(models))} + 0.1 * penalty"]
