"""What stands in generated loops beside the training step: logs, limits of the weights, evaluation and checkpoints."""

from tests.fuzz.layout import Tree
from tests.fuzz.losses import Losses


class Besides(Losses):
    """What a script does besides; the script says whose data it has, and what stands before the loop."""

    owner: str
    loop_before: Tree

    def afterwards(self) -> Tree:
        """What stands behind the step: logs, averages and limits of the weights."""
        c, p = self.c, self.parts
        model = c.one(*p.models)
        if not c.chance(3):
            return []
        form = c.one("print", "running", "clamp", "data", "history")
        if form == "running":
            self.loop_before.append("running = 0.0")
            return ["running += float(y.float().mean())"]
        if form == "history":
            self.loop_before.append("history = []")
            return ["history.append(x.sum().item())"]
        if form == "clamp":
            return [("with torch.no_grad():", [(f"for w in {model}.parameters():", ["w.clamp_(-1.0, 1.0)"])])]
        if form == "data":
            return [(f"for w in {model}.parameters():", ["w.data.clamp_(-0.9, 0.9)"])]
        return ["print(x.shape, end=' ')"]

    def evaluation(self) -> Tree:
        c, p = self.c, self.parts
        output = self.output(p.models)
        body: Tree = (
            [f"print({self.criterion(output)}.item())"] if c.chance(2) else [f"seen = {output}", "print(seen.sum().item())"]
        )
        header = c.one("with torch.no_grad():", "with torch.inference_mode():")
        loop: Tree = [(f"for x, y in {self.owner}data:", body)]
        return [*(f"{m}.eval()" for m in p.models), (header, loop), *(f"{m}.train()" for m in p.models)]

    def checkpoint(self) -> Tree:
        c, p = self.c, self.parts
        o, m = p.optimizers[0], p.models[0]
        tree: Tree = ["buffer = io.BytesIO()"]
        if c.chance(2):
            tree.append(f'torch.save({{"model": {m}.state_dict(), "optimizer": {o.name}.state_dict()}}, buffer)')
        else:
            tree += [
                f'state = {{"model": {m}.state_dict()}}',
                f'state["optimizer"] = {o.name}.state_dict()',
                "torch.save(state, buffer)",
            ]
        tree += ["buffer.seek(0)", f"loaded = torch.load(buffer{c.one('', ', weights_only=True')})"]
        return [*tree, f'{m}.load_state_dict(loaded["model"])', f'{o.name}.load_state_dict(loaded["optimizer"])']
