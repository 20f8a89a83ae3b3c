"""Spelling: how models, optimizers, schedules and losses, and their classes, are usually named."""

from __future__ import annotations

import re

WRAPPERS = frozenset(
    {
        "torch.nn.DataParallel",
        "torch.nn.parallel.DataParallel",
        "torch.nn.parallel.DistributedDataParallel",
        "torch.compile",
        "torch.jit.script",
        "torch.jit.trace",
        "torch.nn.SyncBatchNorm.convert_sync_batchnorm",
    }
)
WRAPPER_CLASSES = ("DataParallel", "DistributedDataParallel", "DDP", "FullyShardedDataParallel")
OPTIMIZER_CLASS = re.compile(
    r"(Adam|SGD|RMSprop|Adagrad|Adadelta|Lamb(?!da)|LAMB|LARS|Lion|Adan|Muon|Ranger|Adafactor|Shampoo|KFAC|Sophia|Adabelief|AdaBelief)\w*$"
)
OPTIMIZER_NAME = re.compile(
    r"(^|_)(opt|optim|optimizer|optimiser|solver|optimizers|trainer)(_?[A-Za-z0-9]{0,3}$|_)|optim|opt$", re.I
)
SCHEDULER_NAME = re.compile(r"sched|warmup|annealer", re.I)
SCHEDULER_CLASS = re.compile(r"(Scheduler|LR|LROnPlateau|WarmRestarts)$")
NOT_A_MODEL = re.compile(r"Train|Optim|Sched|Logger|Writer|Ema|EMA|Meter|Saver|Stopp|Manager|Engine|Env|Loader|Dataset|Buffer")
LOSS_CLASS = re.compile(r"(Loss|Criterion)$")
_MODEL_WORDS = (
    "model|net|network|generator|discriminator|encoder|decoder|critic|actor|agent|policy|backbone|classifier|transformer|"
    "vae|gan|cnn|rnn|mlp|teacher|student"
)
MODEL_NAME = re.compile(
    rf"^_*((?i:{_MODEL_WORDS})(_?\d+|_[A-Z]{{1,2}}|_ema|_copy|_ddp)?|\w*_(?i:{_MODEL_WORDS})\d*|net_?[A-Z]\w?|[GDFE](_[A-Za-z]+)?)$"
)
LOSS_NAME = re.compile(r"criterion|loss_?(fn|func|function|f)$|^crit$", re.I)
