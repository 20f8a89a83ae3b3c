"""Spelling: how models, optimizers, schedules and losses, and their classes, are usually named.

The patterns are texts, which re.search compiles: a file needs few of them, and start-up is measured.
"""

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
OPTIMIZER_CLASS = (
    r"(Adam|SGD|RMSprop|Adagrad|Adadelta|Lamb(?!da)|LAMB|LARS|Lion|Adan|Muon|Ranger|Adafactor|Shampoo|KFAC|Sophia|Adabelief|"
    r"AdaBelief)\w*$"
)
OPTIMIZER_NAME = r"(?i)(^|_)(opt|optim|optimizer|optimiser|solver|optimizers|trainer)(_?[A-Za-z0-9]{0,3}$|_)|optim|opt$"
SCHEDULER_NAME = r"(?i)sched|warmup|annealer"
SCHEDULER_CLASS = r"(Scheduler|LR|LROnPlateau|WarmRestarts)$"
NOT_A_MODEL = r"Train|Optim|Sched|Logger|Writer|Ema|EMA|Meter|Saver|Stopp|Manager|Engine|Env|Loader|Dataset|Buffer"
LOSS_CLASS = r"(Loss|Criterion)$"
_MODEL_WORDS = (
    "model|net|network|generator|discriminator|encoder|decoder|critic|actor|agent|policy|backbone|classifier|transformer|"
    "vae|gan|cnn|rnn|mlp|teacher|student"
)
MODEL_NAME = (
    rf"^_*((?i:{_MODEL_WORDS})(_?\d+|_[A-Z]{{1,2}}|_ema|_copy|_ddp)?|\w*_(?i:{_MODEL_WORDS})\d*|net_?[A-Z]\w?|"
    r"[GDFE](_[A-Za-z]+)?)$"
)
LOSS_NAME = r"(?i)criterion|loss_?(fn|func|function|f)$|^crit$"
