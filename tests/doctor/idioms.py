"""Right idioms of mixed precision, as the notes of PyTorch and well-known scripts have them: nothing may be found in any."""

PRELUDE = """\
import contextlib
import math
import torch
from torch import nn
from torch.nn.utils import clip_grad_norm_

class Args:
    amp = fp16 = True
    clip = 1.0
    accum = 2

args = Args()
device = torch.device("cuda")
model, model2 = nn.Linear(4, 2), nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
optimizer2 = torch.optim.SGD(model2.parameters(), lr=0.1)
criterion = nn.MSELoss()
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
data = [(torch.ones(2, 4), torch.ones(2, 2))] * 4

"""

RIGHT = {
    "typical": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    with torch.autocast(device_type="cuda", dtype=torch.float16):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "clipping": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    with torch.amp.autocast("cuda"):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
""",
    "accumulation": """
scaler = torch.amp.GradScaler("cuda")
for i, (x, y) in enumerate(data):
    with torch.autocast("cuda", torch.float16):
        loss = criterion(model(x), y) / 2
    scaler.scale(loss).backward()
    if (i + 1) % 2 == 0:
        scaler.unscale_(optimizer)
        clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
""",
    "accumulation that skips": """
scaler = torch.amp.GradScaler("cuda")
for i, (x, y) in enumerate(data):
    with torch.autocast("cuda", torch.float16):
        loss = criterion(model(x), y) / 2
    scaler.scale(loss).backward()
    if (i + 1) % 2:
        continue
    scaler.unscale_(optimizer)
    clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
""",
    "penalty": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    with torch.autocast("cuda", torch.float16):
        loss = criterion(model(x), y)
    scaled = torch.autograd.grad(outputs=scaler.scale(loss), inputs=model.parameters(), create_graph=True)
    inverse = 1.0 / scaler.get_scale()
    grads = [p * inverse for p in scaled]
    with torch.autocast("cuda", torch.float16):
        norm = 0
        for grad in grads:
            norm += grad.pow(2).sum()
        loss = loss + norm.sqrt()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "several models and losses": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    optimizer2.zero_grad()
    with torch.autocast("cuda", torch.float16):
        first, second = model(x), model2(x)
        loss0 = criterion(2 * first + 3 * second, y)
        loss1 = criterion(3 * first - 5 * second, y)
    scaler.scale(loss0).backward(retain_graph=True)
    scaler.scale(loss1).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.step(optimizer2)
    scaler.update()
""",
    "adversarial": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    with torch.autocast("cuda", torch.float16):
        loss = criterion(model(x), y)
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    with torch.autocast("cuda", torch.float16):
        loss2 = criterion(model2(x), y)
    optimizer2.zero_grad()
    scaler.scale(loss2).backward()
    scaler.step(optimizer2)
    scaler.update()
""",
    "adversarial, one in float32": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    with torch.autocast("cuda", torch.float16):
        loss = criterion(model(x), y)
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    loss2 = criterion(model2(x), y)
    optimizer2.zero_grad()
    loss2.backward()
    clip_grad_norm_(model2.parameters(), 1.0)
    optimizer2.step()
""",
    "two scalers of two trainings": """
scaler, scaler2 = torch.amp.GradScaler("cuda"), torch.amp.GradScaler("cuda")
for x, y in data:
    loss, loss2 = criterion(model(x), y), criterion(model2(x), y)
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer2.zero_grad()
    scaler2.scale(loss2).backward()
    scaler2.step(optimizer2)
    scaler2.update()
""",
    "switched off by enabled": """
use_amp = args.amp
scaler = torch.amp.GradScaler("cuda", enabled=use_amp)
for x, y in data:
    with torch.autocast("cuda", torch.float16, enabled=use_amp):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
""",
    "off for good": """
scaler = torch.amp.GradScaler("cuda", enabled=False)
for x, y in data:
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
""",
    "two branches": """
scaler = torch.cuda.amp.GradScaler() if args.amp else None
for x, y in data:
    with torch.cuda.amp.autocast(enabled=scaler is not None):
        loss = criterion(model(x), y)
    optimizer.zero_grad()
    if scaler is not None:
        scaler.scale(loss).backward()
        if args.clip is not None:
            scaler.unscale_(optimizer)
            clip_grad_norm_(model.parameters(), args.clip)
        scaler.step(optimizer)
        scaler.update()
    else:
        loss.backward()
        if args.clip is not None:
            clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
""",
    "branches apart": """
def train_one_epoch(model, optimizer, loader, scaler=None):
    for x, y in loader:
        with torch.autocast("cuda", enabled=scaler is not None):
            loss = criterion(model(x), y)
        if not math.isfinite(loss.item()):
            raise SystemExit(1)
        optimizer.zero_grad()
        if scaler is not None:
            scaler.scale(loss).backward()
        else:
            loss.backward()
        if scaler is not None:
            scaler.unscale_(optimizer)
        clip_grad_norm_(model.parameters(), 1.0)
        if scaler is not None:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
""",
    "branches by another name": """
def train_one_epoch(model, optimizer, loader, fp16, scaler):
    for x, y in loader:
        optimizer.zero_grad()
        if not fp16:
            loss = criterion(model(x), y)
            loss.backward()
            optimizer.step()
        else:
            from torch.cuda.amp import autocast
            with autocast():
                loss = criterion(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
""",
    "correlated by hand": """
scaler = torch.amp.GradScaler("cuda")
for i, (x, y) in enumerate(data):
    last = (i + 1) % args.accum == 0
    loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    if last and args.clip:
        scaler.unscale_(optimizer)
        clip_grad_norm_(model.parameters(), args.clip)
    if last:
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
""",
    "in one expression": """
scaler = torch.amp.GradScaler("cuda") if args.amp else None
for x, y in data:
    loss = criterion(model(x), y)
    scaler.scale(loss).backward() if scaler else loss.backward()
    scaler.unscale_(optimizer) if scaler else None
    clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer) if scaler else optimizer.step()
    scaler.update() if scaler else None
    optimizer.zero_grad()
""",
    "context in a variable, and micro-steps": """
dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
ptdtype = {"bfloat16": torch.bfloat16, "float16": torch.float16}[dtype]
ctx = contextlib.nullcontext() if device.type == "cpu" else torch.amp.autocast(device_type=device.type, dtype=ptdtype)
scaler = torch.cuda.amp.GradScaler(enabled=(dtype == "float16"))

@torch.no_grad()
def estimate_loss():
    for x, y in data:
        with ctx:
            loss = criterion(model(x), y)
    return loss.item()

while True:
    for micro_step in range(4):
        with ctx:
            loss = criterion(model(data[0][0]), data[0][1]) / 4
        scaler.scale(loss).backward()
    if args.clip != 0.0:
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), args.clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    if estimate_loss() < 0.1:
        break
""",
    "an object that does it all": """
class NativeScaler:
    state_dict_key = "amp_scaler"

    def __init__(self):
        self._scaler = torch.cuda.amp.GradScaler()

    def __call__(self, loss, optimizer, clip_grad=None, parameters=None, create_graph=False, update_grad=True):
        self._scaler.scale(loss).backward(create_graph=create_graph)
        if update_grad:
            if clip_grad is not None:
                assert parameters is not None
                self._scaler.unscale_(optimizer)
                norm = torch.nn.utils.clip_grad_norm_(parameters, clip_grad)
            else:
                self._scaler.unscale_(optimizer)
                norm = torch.stack([p.grad.norm() for p in parameters]).norm()
            self._scaler.step(optimizer)
            self._scaler.update()
        else:
            norm = None
        return norm

    def state_dict(self):
        return self._scaler.state_dict()

    def load_state_dict(self, state_dict):
        self._scaler.load_state_dict(state_dict)

loss_scaler = NativeScaler()
for i, (x, y) in enumerate(data):
    with torch.cuda.amp.autocast():
        loss = criterion(model(x), y)
    loss_value = loss.item()
    loss_scaler(loss / 2, optimizer, parameters=model.parameters(), update_grad=(i + 1) % 2 == 0)
    if (i + 1) % 2 == 0:
        optimizer.zero_grad()
""",
    "a class, saved and loaded": """
class Trainer:
    def __init__(self, model, optimizer, use_amp):
        self.model, self.optimizer, self.use_amp = model, optimizer, use_amp
        self.scaler = torch.amp.GradScaler("cuda", enabled=use_amp)

    def step(self, x, y):
        with torch.autocast("cuda", torch.float16, enabled=self.use_amp):
            loss = criterion(self.model(x), y)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.item()

    def save(self, path):
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.use_amp:
            state["scaler"] = self.scaler.state_dict()
        torch.save(state, path)

    def load(self, path):
        state = torch.load(path)
        self.optimizer.load_state_dict(state["optimizer"])
        if "scaler" in state:
            self.scaler.load_state_dict(state["scaler"])
""",
    "steps in several functions": """
scaler = torch.amp.GradScaler("cuda")

def backward(loss):
    scaler.scale(loss).backward()

def step(optimizer):
    scaler.unscale_(optimizer)
    clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()

for x, y in data:
    with torch.autocast("cuda", torch.float16):
        loss = criterion(model(x), y)
    backward(loss)
    step(optimizer)
""",
    "update in a callback": """
scaler = torch.amp.GradScaler("cuda")

class Hooks:
    def after_step(self):
        scaler.update()

hooks = Hooks()
for x, y in data:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    scaler.step(optimizer)
    hooks.after_step()
""",
    "unscaled by hand": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    inverse = 1.0 / scaler.get_scale()
    norm = sum((p.grad * inverse).norm() ** 2 for p in model.parameters()) ** 0.5
    scaler.step(optimizer)
    scaler.update()
""",
    "a look for overflows": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    found = any(not torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    scaler.step(optimizer)
    scaler.update()
""",
    "bfloat16 without a scaler": """
for x, y in data:
    optimizer.zero_grad()
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = criterion(model(x), y)
    loss.backward()
    clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
""",
    "on the CPU": """
for x, y in data:
    optimizer.zero_grad()
    with torch.autocast("cpu"):
        loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
""",
    "a scaled loss of its own name": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    loss = criterion(model(x), y)
    scaled_loss = scaler.scale(loss)
    optimizer.zero_grad()
    scaled_loss.backward()
    scaler.step(optimizer)
    scaler.update()
    print(loss.item())
""",
    "a loss scaled and never looked at": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    loss = criterion(model(x), y)
    print(loss.item())
    if args.amp:
        loss = scaler.scale(loss)
    optimizer.zero_grad()
    loss.backward()
    scaler.step(optimizer)
    scaler.update()
    del loss
""",
    "a scaler for each fold": """
for fold in range(5):
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cuda")
    for epoch in range(3):
        for x, y in data:
            optimizer.zero_grad()
            scaler.scale(criterion(model(x), y)).backward()
            scaler.step(optimizer)
            scaler.update()
""",
    "a scaler made once in a loop": """
scaler = None
for epoch in range(3):
    if scaler is None:
        scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
        scaler.step(optimizer)
        scaler.update()
""",
    "schedule held back": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    scaler.step(optimizer)
    scale = scaler.get_scale()
    scaler.update()
    skipped = scale > scaler.get_scale()
    if not skipped:
        scheduler.step()
    if scale <= scaler.get_scale():
        scheduler.step()
""",
    "FSDP with its own scaler": """
from torch.distributed.fsdp import FullyShardedDataParallel as FSDP
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
model = FSDP(model) if args.fp16 else model
scaler = ShardedGradScaler() if args.fp16 else torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "half for inference": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    scaler.step(optimizer)
    scaler.update()
exported = nn.Linear(4, 2)
exported.load_state_dict(model.state_dict())
exported.half()
""",
    "custom functions": """
class Old(torch.autograd.Function):
    @staticmethod
    @torch.cuda.amp.custom_fwd
    def forward(ctx, x):
        return x

    @staticmethod
    @torch.cuda.amp.custom_bwd
    def backward(ctx, g):
        return g

class New(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cuda", cast_inputs=torch.float32)
    def forward(ctx, x):
        return x

    @staticmethod
    @torch.amp.custom_bwd(device_type="cuda")
    def backward(ctx, g):
        return g
""",
    "float32 inside a region": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    with torch.autocast("cuda", torch.float16):
        out = model(x)
        with torch.autocast("cuda", enabled=False):
            loss = criterion(out.float(), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "evaluation under one region": """
with torch.no_grad(), torch.autocast("cuda", torch.float16):
    for x, y in data:
        print(criterion(model(x), y).item())
""",
    "sampling and scaling of other things": """
from sklearn.preprocessing import StandardScaler
scaler = StandardScaler()
features = scaler.fit_transform([[1.0], [2.0]])
grad_scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    grad_scaler.scale(criterion(model(x), y)).backward()
    grad_scaler.step(optimizer)
    grad_scaler.update()
""",
    "optimizers in a loop": """
scaler = torch.amp.GradScaler("cuda")
optimizers = [optimizer, optimizer2]
for x, y in data:
    for o in optimizers:
        o.zero_grad()
    scaler.scale(criterion(model(x) + model2(x), y)).backward()
    for o in optimizers:
        scaler.unscale_(o)
    clip_grad_norm_(model.parameters(), 1.0)
    for o in optimizers:
        scaler.step(o)
    scaler.update()
""",
    "a skip of bad steps": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    loss = criterion(model(x), y)
    if not torch.isfinite(loss):
        continue
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    norm = clip_grad_norm_(model.parameters(), 1.0)
    if norm > 100:
        scaler.update()
        continue
    scaler.step(optimizer)
    scaler.update()
""",
    "a warm-up without mixed precision": """
scaler = torch.amp.GradScaler("cuda")
for epoch in range(4):
    for x, y in data:
        optimizer.zero_grad()
        if epoch < 1:
            criterion(model(x), y).backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            continue
        with torch.autocast("cuda", torch.float16):
            loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
""",
    "a loss scaled in a function": """
scaler = torch.amp.GradScaler("cuda")

def compute(x, y):
    with torch.autocast("cuda", torch.float16):
        return scaler.scale(criterion(model(x), y))

for x, y in data:
    optimizer.zero_grad()
    loss = compute(x, y)
    loss.backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "scaled losses added up": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    first = scaler.scale(criterion(model(x), y))
    second = scaler.scale(model(x).mean())
    both = first + second
    both.backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "scaled losses in a list": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    losses = []
    for head in range(2):
        losses.append(scaler.scale(criterion(model(x), y)))
    sum(losses).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
    for loss in [scaler.scale(loss) for loss in (criterion(model(x), y), model(x).mean())]:
        loss.backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "a sum of scaled losses": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    total = 0
    for head in range(2):
        total += scaler.scale(criterion(model(x), y))
    total.backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "a scaled loss of an instance": """
class Step:
    def __init__(self):
        self.scaler = torch.amp.GradScaler("cuda")

    def forward(self, x, y):
        with torch.autocast("cuda", torch.float16):
            self.loss = criterion(model(x), y)
        self.scaled = self.scaler.scale(self.loss)

    def backward(self):
        self.scaled.backward()

    def run(self, x, y):
        optimizer.zero_grad()
        self.forward(x, y)
        self.backward()
        self.scaler.step(optimizer)
        self.scaler.update()
""",
    "a step skipped by the author": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    scaler.unscale_(optimizer)
    norm = clip_grad_norm_(model.parameters(), 1.0)
    if torch.isfinite(norm):
        optimizer.step()
    scaler.update()
""",
    "retried batches": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    try:
        optimizer.zero_grad()
        scaler.scale(criterion(model(x), y)).backward()
    except RuntimeError:
        optimizer.zero_grad()
        continue
    scaler.unscale_(optimizer)
    clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
""",
    "clipping by the fused way": """
scaler = torch.amp.GradScaler("cuda")
params = list(model.parameters())
for x, y in data:
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(criterion(model(x), y)).backward()
    scaler.unscale_(optimizer)
    grads = [p.grad for p in params if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(grads)
    torch.nn.utils.clip_grads_with_norm_(params, 1.0, norm)
    scaler.step(optimizer)
    scaler.update()
""",
    "a helper that unscales": """
scaler = torch.amp.GradScaler("cuda")

def prepare():
    scaler.unscale_(optimizer)

for x, y in data:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    prepare()
    clip_grad_norm_(model.parameters(), 1.0)
    scaler.step(optimizer)
    scaler.update()
""",
    "methods that unscale and update": """
class Trainer:
    def __init__(self):
        self.scaler = torch.amp.GradScaler("cuda")

    def unscale(self):
        if args.clip:
            self.scaler.unscale_(optimizer)

    def finish(self):
        self.scaler.update()

    def train(self):
        for x, y in data:
            optimizer.zero_grad()
            self.scaler.scale(criterion(model(x), y)).backward()
            self.unscale()
            clip_grad_norm_(model.parameters(), 1.0)
            self.scaler.step(optimizer)
            self.finish()
""",
    "handed to a clip of its own": """
from utils import clip_with_scaler
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    clip_with_scaler(scaler, optimizer)
    norm = clip_grad_norm_(model.parameters(), 1e9)
    scaler.step(optimizer)
    scaler.update()
""",
    "in a subclass's hook": """
class Base:
    def __init__(self):
        self.scaler = torch.amp.GradScaler("cuda")

    def before_clip(self):
        pass

    def train(self):
        for x, y in data:
            optimizer.zero_grad()
            self.scaler.scale(criterion(model(x), y)).backward()
            self.before_clip()
            clip_grad_norm_(model.parameters(), 1.0)
            self.scaler.step(optimizer)
            self.scaler.update()

class Real(Base):
    def before_clip(self):
        self.scaler.unscale_(optimizer)
""",
    "optimizers of one model in float32": """
for x, y in data:
    optimizer.zero_grad()
    with torch.autocast("cuda", torch.float16, enabled=False):
        loss = criterion(model(x), y)
    loss.backward()
    optimizer.step()
""",
    "a scaler of another kind": """
class LossScaler:
    def __init__(self, scale):
        self.factor = scale

    def scale(self, loss):
        return loss * self.factor

    def step(self, optimizer):
        for p in model.parameters():
            p.grad /= self.factor
        optimizer.step()

    def update(self):
        self.factor *= 1.0

scaler = LossScaler(128.0)
with torch.autocast("cuda", torch.bfloat16):
    pass
for x, y in data:
    optimizer.zero_grad()
    scaler.scale(criterion(model(x), y)).backward()
    clip_grad_norm_(model.parameters(), 128.0)
    scaler.step(optimizer)
    scaler.update()
""",
    "options that can be switched off": """
import argparse

def truth(text):
    return text.lower() == "true"

parser = argparse.ArgumentParser()
parser.add_argument("--amp", action="store_true", default=False)
parser.add_argument("--half", type=truth, default=False)
parser.add_argument("--fp16", default=False)
parser.add_argument("--mixed", default=False, type=int)
parser.add_argument("--precision", default="fp16")
parser.add_argument("--verbose", default=False, type=bool)
parser.add_argument("--native", nargs="?", const=True, default=False)
args = parser.parse_args([])
args.fp16 = args.fp16 in (True, "True")
scaler = torch.amp.GradScaler("cuda", enabled=args.amp or args.half or args.mixed or args.fp16 or args.native)
for x, y in data:
    optimizer.zero_grad()
    with torch.autocast("cuda", torch.float16, enabled=args.amp):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    if args.verbose:
        print(loss.item())
""",
    "states that are there": """
scaler = torch.amp.GradScaler("cuda")
checkpoint = torch.load("last.pt")
optimizer.load_state_dict(checkpoint["optimizer"])
scaler.load_state_dict(checkpoint["scaler"])
torch.save({"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}, "last.pt")
""",
    "states that are asked for": """
scaler = torch.amp.GradScaler("cuda", enabled=args.amp)
checkpoint = torch.load("last.pt")
optimizer.load_state_dict(checkpoint["optimizer"])
if args.amp and "scaler" in checkpoint:
    scaler.load_state_dict(checkpoint["scaler"])
state = {"optimizer": optimizer.state_dict()}
if args.amp:
    state["scaler"] = scaler.state_dict()
torch.save(state, "last.pt")
""",
    "states that may be missed": """
scaler = torch.amp.GradScaler("cuda", enabled=args.amp)
checkpoint = torch.load("last.pt")
optimizer.load_state_dict(checkpoint["optimizer"])
try:
    scaler.load_state_dict(checkpoint["scaler"])
except (KeyError, RuntimeError):
    print("a new scale")
torch.save({"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}, "last.pt")
""",
    "states that are looked at": """
scaler = torch.amp.GradScaler("cuda", enabled=args.amp)
checkpoint = torch.load("last.pt")
optimizer.load_state_dict(checkpoint["optimizer"])
if checkpoint["scaler"]:
    scaler.load_state_dict(checkpoint["scaler"])
torch.save({"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}, "last.pt")
""",
    "a run that says what it was": """
scaler = torch.amp.GradScaler("cuda") if args.amp else None
checkpoint = torch.load("last.pt")
optimizer.load_state_dict(checkpoint["optimizer"])
if checkpoint["args"].amp:
    scaler.load_state_dict(checkpoint["scaler"])
state = {"optimizer": optimizer.state_dict(), "args": args}
if args.amp:
    state["scaler"] = scaler.state_dict()
torch.save(state, "last.pt")
""",
    "versions": """
from packaging import version
enabled = torch.__version__ >= "1.10"
if version.parse(torch.__version__) < version.parse("1.10") or torch.__version__ < "1.6.0":
    raise RuntimeError("torch is too old")
if torch.version.__version__ < "1.6":
    print("torch is old")
if torch.__version__[:3] < "2.0":
    raise RuntimeError("torch is too old")
scaler = torch.amp.GradScaler("cuda", enabled=enabled and torch.__version__.split("+")[0] > "2")
for x, y in data:
    optimizer.zero_grad()
    with torch.autocast("cuda", torch.float16, enabled=torch.__version__ >= "2.4"):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "scalers where there is mixed precision": """
def run(amp, dtype, resume):
    if amp:
        scaler = torch.amp.GradScaler("cuda")
    if dtype == "float16":
        other = torch.amp.GradScaler("cuda")
    maybe = torch.amp.GradScaler("cuda") if amp else None
    for x, y in data:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16, enabled=amp):
            loss = criterion(model(x), y)
        if amp:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        optimizer2.zero_grad()
        loss = criterion(model2(x), y)
        other.scale(loss).backward() if dtype == "float16" else loss.backward()
        if dtype == "float16":
            other.step(optimizer2)
            other.update()
        else:
            optimizer2.step()
        print(maybe.get_scale() if maybe else 1.0, maybe and maybe.get_scale())
""",
    "a scaler behind a way out": """
def run(amp):
    if not amp:
        return
    if amp:
        scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
""",
    "a scaler, or another round": """
def run(amp):
    if amp:
        scaler = torch.amp.GradScaler("cuda")
    for x, y in data:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16, enabled=amp):
            loss = criterion(model(x), y)
        if not amp:
            loss.backward()
            optimizer.step()
            continue
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
""",
    "a scaler, or an error": """
if args.amp:
    scaler = torch.amp.GradScaler("cuda")
elif args.fp16:
    raise RuntimeError("there is no such thing")
else:
    scaler = torch.amp.GradScaler("cuda", enabled=False)
for x, y in data:
    optimizer.zero_grad()
    with torch.autocast("cuda", torch.float16, enabled=args.amp):
        loss = criterion(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "a scaler of the first round": """
def run():
    for i, (x, y) in enumerate(data):
        if i:
            print(scaler.get_scale())
        else:
            scaler = torch.amp.GradScaler("cuda")
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
""",
    "gradients with a graph": """
scaler = torch.amp.GradScaler("cuda")
for x, y in data:
    x.requires_grad_()
    optimizer.zero_grad()
    with torch.autocast("cuda", torch.float16):
        loss = criterion(model(x), y)
    slope = torch.autograd.grad(loss, x, create_graph=True)[0]
    direction = torch.autograd.grad(scaler.scale(loss), x, create_graph=True)[0].sign()
    loss = loss + ((slope.norm(2, dim=1) - 1) ** 2).mean() + criterion(model(x + direction.detach()), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
""",
    "a scaler for each training": """
for path in ("a.pt", "b.pt"):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cuda")
    scaler.load_state_dict(torch.load(path))
    for x, y in data:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            loss = criterion(model(x), y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
scaler = torch.amp.GradScaler("cuda")
if args.fp16:
    scaler.load_state_dict(torch.load("c.pt"))
else:
    scaler = torch.amp.GradScaler("cuda", init_scale=1024.0)
for x, y in data:
    optimizer2.zero_grad()
    with torch.autocast("cuda", torch.float16):
        loss = criterion(model2(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer2)
    scaler.update()
""",
    "evaluation as the training": """
scaler = torch.amp.GradScaler("cuda")
ctx = torch.autocast("cuda", torch.float16)

@torch.no_grad()
def validate(model, cast):
    model.eval()
    with cast():
        return model(data[1][0])

@torch.no_grad()
@torch.autocast("cuda", torch.float16)
def test(model):
    return model(data[0][0])

@torch.inference_mode()
def predict(model, x):
    return model(x)

def train(model):
    for x, y in data:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            out = model(x)
            loss = criterion(out, y)
            picked = torch.gather(out, 1, torch.zeros(2, 1).long())
        print(loss.item(), picked)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        with torch.no_grad():
            weights = [p.norm() for p in model.parameters()]
    with ctx:
        predict(model, x)
""",
    "evaluation, and none that is cast": """
scaler = torch.amp.GradScaler("cuda")
ctx = torch.autocast("cuda", torch.float16)

@torch.no_grad()
def validate(model, cast):
    model.eval()
    with cast():
        return model(data[1][0])

@torch.inference_mode()
def predict(model, x):
    return model(x)

def train(model):
    for x, y in data:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.float16):
            out = model(x)
            loss = criterion(out, y)
            picked = torch.gather(out, 1, torch.zeros(2, 1).long())
        print(loss.item(), picked)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        with torch.no_grad():
            weights = [p.norm() for p in model.parameters()]
    with ctx:
        predict(model, x)
""",
    "contexts by partial": """
from functools import partial
cast = partial(torch.autocast, "cuda", dtype=torch.bfloat16) if args.amp else contextlib.nullcontext
name = "bfloat16"
half = torch.float16 if args.fp16 else torch.bfloat16
other = partial(torch.autocast, "cuda", dtype=half)
table = {"bfloat16": torch.bfloat16, "float16": torch.float16}

def first():
    for x, y in data:
        optimizer.zero_grad()
        with cast():
            loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()

def second():
    for x, y in data:
        optimizer.zero_grad()
        with other():
            loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()

def third():
    for x, y in data:
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=table[name]):
            loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()

def fourth():
    for x, y in data:
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=table[args.clip]):
            loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()

def fifth():
    with torch.no_grad(), torch.autocast("cuda"):
        loss = criterion(model(data[0][0]), data[0][1])
    print(loss.item())
    for x, y in data:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
""",
}
