"""Small training scripts, and what is written in place of a line to make a mistake."""

from typing import NamedTuple

HEAD = """\
import torch
import torch.nn as nn
import torch.nn.functional as F
"""

PLAIN = (
    HEAD
    + """
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
data = [(torch.randn(8, 16), torch.randn(8, 1)) for _ in range(4)]
for epoch in range(50):
    for x, y in data:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
"""
)

GAN = (
    HEAD
    + """
G = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 16))
D = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer_G = torch.optim.Adam(G.parameters(), lr=1e-3)
optimizer_D = torch.optim.Adam(D.parameters(), lr=1e-3)
criterion = nn.BCEWithLogitsLoss()
data = [torch.randn(8, 16) for _ in range(4)]
for epoch in range(50):
    for real in data:
        fake = G(torch.randn(8, 8))
        optimizer_D.zero_grad()
        loss_real = criterion(D(real), torch.ones(8, 1))
        loss_fake = criterion(D(fake.detach()), torch.zeros(8, 1))
        loss_real.backward()
        loss_fake.backward()
        optimizer_D.step()
        optimizer_G.zero_grad()
        loss_G = criterion(D(fake), torch.ones(8, 1))
        loss_G.backward()
        optimizer_G.step()
"""
)

BCE = (
    HEAD
    + """
model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1), nn.Sigmoid())
criterion = nn.BCELoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
data = [(torch.randn(8, 16), torch.rand(8, 1).round()) for _ in range(4)]
for epoch in range(50):
    for x, y in data:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
"""
)

BATCH_NORM = (
    HEAD
    + """
model = nn.Sequential(nn.Linear(16, 32), nn.BatchNorm1d(32), nn.Tanh(), nn.Linear(32, 32), nn.BatchNorm1d(32), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters())
data = [(torch.randn(3, 16), torch.randn(3, 1)) for _ in range(4)]
for epoch in range(50):
    for x, y in data:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
"""
)

LBFGS = (
    HEAD
    + """
model = nn.Linear(16, 1)
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
x, y = torch.randn(32, 16), torch.randn(32, 1)
for step in range(20):
    def closure():
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        return loss

    optimizer.step(closure)
"""
)

NO_AUTOCAST = PLAIN.replace(
    "model = ",
    """class Plain(nn.Module):
    def forward(self, x):
        assert not torch.is_autocast_enabled("cpu"), "no kernel for this"
        return x


model = """,
).replace("nn.Linear(32, 1))", "nn.Linear(32, 1), Plain())")

CHANCE = PLAIN.replace("import torch\n", "import os\nimport torch\n", 1).replace(
    "model = ", "torch.manual_seed(int.from_bytes(os.urandom(4)))\nmodel = ", 1
)


class Mistake(NamedTuple):
    """A script, what is written in the place of what in its conversion, the mode that has to show it, and what is then said."""

    script: str
    before: str
    after: str
    mode: str
    said: str
    cuda_policy: bool = False


UPDATE = """\
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
"""
MISTAKES = {
    "clip before unscale": Mistake(
        PLAIN, "        scaler.unscale_(optimizer)\n", "", "scale-only", "6 clips of gradients that were still scaled"
    ),
    "missing update": Mistake(PLAIN, "        scaler.update()\n", "", "scale-only", "unscale_() is being called after step()"),
    "a backward that is not scaled": Mistake(
        GAN,
        "scaler.scale(loss_fake).backward()",
        "loss_fake.backward()",
        "scale-only",
        "6 backward passes from a loss that was not scaled",
    ),
    "a step past the scaler": Mistake(
        GAN, "scaler.step(optimizer_G)", "optimizer_G.step()", "scale-only", "6 optimizer steps past the scaler"
    ),
    "a region over a step": Mistake(
        PLAIN, UPDATE, UPDATE.replace("        ", "            "), "fp16", "optimizer steps under autocast"
    ),
    "binary cross entropy under autocast": Mistake(
        BCE, "full_precision(criterion)\n", "", "fp16", "unsafe to autocast", cuda_policy=True
    ),
}
