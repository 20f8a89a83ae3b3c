"""What a script of apex.amp imports, as it is in float32: put in front of the script, it trains without apex."""

STUB = b"""\
import contextlib as _contextlib, sys as _sys, types as _types
_apex, _amp, _parallel = (_types.ModuleType(name) for name in ("apex", "apex.amp", "apex.parallel"))
_amp.initialize = lambda models, optimizers=None, *args, **kwargs: models if optimizers is None else (models, optimizers)
_amp.scale_loss = _contextlib.contextmanager(lambda loss, optimizer, **kwargs: (yield loss))
_amp.master_params = lambda optimizer: [p for group in optimizer.param_groups for p in group["params"]]
_amp.state_dict = lambda: {"loss_scaler0": {"loss_scale": 65536.0, "unskipped": 0}}
_amp.load_state_dict = lambda state: None
_parallel.convert_syncbn_model = lambda model: model
_apex.amp, _apex.parallel = _amp, _parallel
_sys.modules.update({"apex": _apex, "apex.amp": _amp, "apex.parallel": _parallel})
"""
