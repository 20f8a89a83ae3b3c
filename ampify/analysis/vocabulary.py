"""Vocabulary: the names of PyTorch's operators and methods, and of other things, that the analysis knows by sight."""

MATMULS = frozenset(
    (
        "matmul mm bmm mv dot addmm addbmm baddbmm addmv einsum chain_matmul conv1d conv2d conv3d conv_transpose1d "
        "conv_transpose2d conv_transpose3d linear bilinear scaled_dot_product_attention multi_head_attention_forward"
    ).split()
)
PREPARATION = frozenset({"one_hot", "pad", "normalize", "interpolate"})  # functionals that often only prepare data
PASSIVE = frozenset(
    (
        "parameters named_parameters buffers named_buffers modules named_modules children named_children train eval to "
        "cuda cpu half float double bfloat16 state_dict load_state_dict zero_grad requires_grad_ apply register_buffer "
        "register_parameter add_module share_memory get_parameter configure_optimizers size dim view items keys values "
        "append __len__ extra_repr register_forward_hook register_backward_hook register_full_backward_hook save "
        "save_pretrained load init_weights reset_parameters init_hidden type register_comm_hook no_sync join summary"
    ).split()
)
WRITERS = frozenset({"load_state_dict", "update_parameters", "update_moving_average", "update_average", "vector_to_parameters"})
HARMLESS = frozenset(
    (
        "print len isinstance str repr list tuple set dict sum id type iter enumerate zip map filter any all sorted "
        "hasattr getattr next range min max reversed callable vars super"
    ).split()
)
GOING_THROUGH = frozenset(  # functions that go through the keys of a dict, or count them
    "len set frozenset list tuple sorted reversed iter enumerate zip map filter any all sum min max".split()
)
STANDARD = frozenset("itertools functools copy math os sys json logging random time operator collections numpy".split())
NOT_OPTIMIZERS = frozenset(
    {"env", "envs", "prof", "profiler", "pbar", "bar", "timer", "logger", "world", "sim", "simulator", "game", "viz"}
)
MUTATORS = frozenset({"append", "extend", "insert", "add", "update", "setdefault", "appendleft", "push"})
TENSOR_METHODS = frozenset(
    (
        "item detach numpy tolist view reshape size dim mean sum std var min max argmax type float double long int bool "
        "cpu cuda to squeeze unsqueeze permute transpose t contiguous clone format split strip join get pop keys values "
        "items index count copy backward requires_grad_ data_ptr expand repeat flatten eq ne gt lt ge le abs pow sqrt exp "
        "log round clamp log_prob sample entropy"
    ).split()
)
CLEARING = frozenset({"zero_", "detach_", "zero_grad"})
DETACHING = frozenset("item detach numpy tolist argmax data".split())
LEAVING_GRADIENTS = tuple(  # words in the names of functions that get a model and leave its gradients alone
    "eval valid test save log sample generate summary checkpoint print plot visual accuracy predict infer loss load param "
    "adjust lr".split()
)
REDUCING = frozenset("mean sum squeeze view reshape unsqueeze values float".split())  # methods that combine losses
COMBINING = frozenset("sum list tuple len min max torch.stack torch.cat torch.mean torch.sum".split())  # functions that do
TRACES = frozenset({"torch.jit.trace", "torch.jit.trace_module"})
SECOND_ORDER = frozenset(
    "torch.autograd.grad torch.func.grad torch.autograd.functional.jacobian torch.autograd.functional.hessian".split()
)
FUNCTIONAL = frozenset(  # what makes optimizers whose step takes a loss, differentiates it, and can be differentiated itself
    (
        "higher.innerloop_ctx higher.get_diff_optim higher.create_diff_optim higher.optim.get_diff_optim "
        "higher.optim.create_diff_optim"
    ).split()
)
