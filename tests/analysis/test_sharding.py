"""FullyShardedDataParallel: plain uses pass, and what would hide its ranks, its precision or its gradients is refused."""

import pytest

from tests.analysis.reading import HEAD, codes, events

FSDP = (
    HEAD
    + """\
import functools
import torch.distributed as dist
from torch.distributed import fsdp
from torch.distributed.fsdp import CPUOffload, FullyShardedDataParallel as FSDP, MixedPrecision
from torch.distributed.fsdp.wrap import CustomPolicy, enable_wrap, wrap

net = nn.Linear(4, 1)
model = FSDP(net)
optimizer = optim.SGD(model.parameters(), lr=0.1)
loss.backward()
optimizer.step()
"""
)

PLAIN = """
model = FSDP(net, None, fsdp.ShardingStrategy.HYBRID_SHARD, None, policy, None, None)
model = FSDP(net, process_group=None, device_mesh=None, mixed_precision=None, cpu_offload=None)
model = FSDP(net, process_group=dist.group.WORLD, use_orig_params=True, sync_module_states=True)
model = fsdp.FullyShardedDataParallel(net, auto_wrap_policy=functools.partial(policy, min_num_params=100))
model = fsdp.fully_sharded_data_parallel.FullyShardedDataParallel(net)
for layer in net: FSDP(layer)
with model.no_sync(): model(x)
with FSDP.state_dict_type(model, kind): state = model.state_dict()
with FSDP.summon_full_params(model, writeback=False): print(model)
with FSDP.summon_full_params(model, with_grads=False): print(model)
if isinstance(model, (FSDP, nn.DataParallel)): pass
if type(model) is FSDP: pass
def f(m: FSDP | None) -> FSDP: pass
m: FSDP = model
with enable_wrap(wrapper_cls=FSDP, use_orig_params=True): model = wrap(net)
""".strip().splitlines()

REFUSED = {
    "model = FSDP(net, group)": "AMP910",
    "model = FSDP(net, process_group=group)": "AMP910",
    "model = FSDP(net, process_group=dist.new_group([0, 1]))": "AMP910",
    "model = FSDP(net, process_group=None if whole else group)": "AMP910",
    "model = FSDP(net, device_mesh=mesh['dp'])": "AMP910",
    "model = FSDP(net, **options)": "AMP910",
    "model = FSDP(*parts)": "AMP910",
    "model = FSDP(net, cpu_offload=CPUOffload(offload_params=True))": "AMP910",
    "model = FSDP(net, None, None, CPUOffload(True))": "AMP910",
    "shard = functools.partial(FSDP, process_group=group)": "AMP910",
    "shard = FSDP if large else nn.DataParallel": "AMP910",
    "build(FSDP)": "AMP910",
    "class Sharded(FSDP): pass": "AMP910",
    "with enable_wrap(wrapper_cls=FSDP, process_group=group): model = wrap(net)": "AMP910",
    "with enable_wrap(wrapper_cls=FSDP, **options): model = wrap(net)": "AMP910",
    "with enable_wrap(wrapper_cls=FSDP): model = wrap(net, process_group=group)": "AMP910",
    "model = FSDP(net, auto_wrap_policy=CustomPolicy(decide))": "AMP910",
    "with FSDP.summon_full_params(model, with_grads=True): pass": "AMP910",
    "with model.summon_full_params(model, **options): pass": "AMP910",
    "from fairscale.nn import FullyShardedDataParallel\nmodel = FullyShardedDataParallel(net)": "AMP910",
    "model = FSDP(net, mixed_precision=MixedPrecision(param_dtype=torch.bfloat16))": "AMP918",
    "model = FSDP(net, mixed_precision=policy)": "AMP918",
    "model = FSDP(net, None, None, None, None, None, policy)": "AMP918",
    "with enable_wrap(wrapper_cls=FSDP, mixed_precision=policy): model = wrap(net)": "AMP918",
}


@pytest.mark.parametrize("snippet", PLAIN)
def test_plain(snippet: str) -> None:
    assert codes(snippet + "\n", FSDP) == set()


@pytest.mark.parametrize("snippet", REFUSED)
def test_refused(snippet: str) -> None:
    assert codes(snippet + "\n", FSDP) == {REFUSED[snippet]}


def test_only_imported() -> None:
    head = HEAD + "from fairscale.nn import FullyShardedDataParallel\nfrom torch.distributed.fsdp.wrap import CustomPolicy\n"
    assert codes("loss.backward()\nprint(CustomPolicy)\n", head) == set()


CLIPS = """
model.clip_grad_norm_(1.0)
norm = model.clip_grad_norm_(max_norm=args.clip)
FSDP.clip_grad_norm_(model, 1.0)
net.weight.grad.norm()
nn.utils.clip_grad_norm_(net.parameters(), 1.0)
""".strip().splitlines()


@pytest.mark.parametrize("snippet", CLIPS)
def test_its_gradients_are_those_of_the_model_inside(snippet: str) -> None:
    assert events(snippet + "\n", FSDP) == ["read optimizer"]
