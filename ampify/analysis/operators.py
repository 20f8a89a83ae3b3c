"""Operators: what torch's functions, methods, layers and dtypes give, by the last part of their names."""

from __future__ import annotations

import ast

from ampify.analysis.names import Names

# dtypes ----------------------------------------------------------------------------------------------

FULL_DTYPES = frozenset(f"torch.{n}" for n in "float float32 double float64".split())
HALF_DTYPES = frozenset(f"torch.{n}" for n in "half float16 bfloat16".split())
INTEGRAL_DTYPES = frozenset(f"torch.{n}" for n in "bool int int8 int16 int32 int64 long short uint8".split())
COMPLEX_DTYPES = frozenset(f"torch.{n}" for n in "complex64 complex128 cfloat cdouble chalf".split())
DTYPES = FULL_DTYPES | HALF_DTYPES | INTEGRAL_DTYPES | COMPLEX_DTYPES
DTYPE_NAMES = frozenset(name.removeprefix("torch.") for name in DTYPES)

# functions and methods that make tensors -------------------------------------------------------------

MAKING = frozenset("zeros ones rand randn empty eye normal FloatTensor Parameter Buffer".split())  # floating-point ones
WRAPPING = frozenset("tensor as_tensor full from_numpy arange linspace Tensor randint randperm LongTensor".split())
FACTORIES = frozenset(  # float32 ones
    "zeros ones rand randn full tensor as_tensor empty eye linspace normal from_numpy FloatTensor Tensor".split()
)
LIKE = frozenset("zeros_like ones_like rand_like randn_like full_like empty_like".split())
NEW = frozenset("new_zeros new_ones new_full new_tensor new_empty new".split())

# functions and methods of tensors --------------------------------------------------------------------

LOSSES = frozenset(
    (
        "cross_entropy nll_loss mse_loss l1_loss smooth_l1_loss huber_loss kl_div binary_cross_entropy_with_logits "
        "gaussian_nll_loss poisson_nll_loss cosine_embedding_loss margin_ranking_loss triplet_margin_loss soft_margin_loss "
        "hinge_embedding_loss multi_margin_loss multilabel_soft_margin_loss ctc_loss"
    ).split()
)
FLOATS = frozenset(  # which arrays of numpy do not have, with floating-point results
    (
        "softmax log_softmax softmin gumbel_softmax sigmoid logsigmoid tanh exp expm1 log log2 log10 log1p sqrt rsqrt norm "
        "logsumexp softplus cdist matmul mm bmm mv addmm baddbmm einsum linear bilinear conv1d conv2d conv3d "
        "conv_transpose1d conv_transpose2d conv_transpose3d scaled_dot_product_attention layer_norm group_norm batch_norm "
        "instance_norm normalize dropout gelu elu selu celu silu mish hardswish leaky_relu interpolate cosine_similarity "
        "pairwise_distance mse_loss l1_loss smooth_l1_loss nll_loss cross_entropy kl_div binary_cross_entropy_with_logits "
        "reciprocal erf sin cos atan2 avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d lerp embedding grid_sample"
    ).split()
)
WIDENING = frozenset(  # of these, those that take integers too
    (
        "exp expm1 log log2 log10 log1p sqrt rsqrt sigmoid tanh sin cos erf atan2 reciprocal logsumexp matmul mm bmm mv addmm "
        "baddbmm einsum l1_loss interpolate pairwise_distance"
    ).split()
)
METHODS = frozenset(  # of these, those that tensors have
    (
        "softmax log_softmax sigmoid tanh exp expm1 log log2 log10 log1p sqrt rsqrt norm logsumexp matmul mm bmm mv addmm "
        "baddbmm reciprocal erf sin cos atan2 lerp"
    ).split()
)
UNARY = METHODS - frozenset("matmul mm bmm mv addmm baddbmm atan2 lerp".split())  # that take no other tensor
KEEPING = frozenset(  # with results like their operands, and which arrays do not have either
    (
        "view unsqueeze permute contiguous detach expand expand_as chunk unbind masked_fill masked_select gather "
        "index_select index_add index_copy index_fill scatter scatter_add narrow abs relu neg triu tril roll where amax amin "
        "clamp clamp_min clamp_max topk unfold repeat_interleave cpu t view_as reshape_as type_as bernoulli movedim new_tensor "
        "stack cat addcmul square pow masked_scatter fill_ zero_ requires_grad_ to_dense pad max_pool1d "
        "max_pool2d logical_not unflatten swapaxes"
    ).split()
)
SHARED = frozenset(
    "sum mean std var min max clip transpose reshape squeeze prod cumsum cumprod round dot repeat sort flatten".split()
)
ARITHMETIC = frozenset("add sub mul div neg flip split pin_memory".split())  # of a tensor, like it
LEARNED = frozenset("mean std var div true_divide".split())  # of a tensor, floating-point ones
DENSITIES = frozenset({"log_prob"})  # methods of distributions, with floating-point results
INTEGRAL = frozenset("long int bool byte short argmax argmin argsort eq ne gt lt ge le isnan isinf nonzero".split())
PICKING = frozenset("max min topk sort kthvalue mode median cummax cummin unique".split())  # values, and their indices
QUESTIONS = frozenset({"size", "dim", "numel"})  # methods that only tensors have
SEVERAL = frozenset("chunk split unbind tensor_split".split())  # with tuples of results
SAME = frozenset({"T", "mT", "H", "data", "real", "grad", "values"})  # attributes with the tensor's own dtype
COMPLEX = frozenset("torch.complex torch.polar torch.view_as_complex".split()) | COMPLEX_DTYPES
REAL = frozenset("abs angle real imag view_as_real irfft irfft2 irfftn hfft istft fftfreq rfftfreq norm item size shape".split())
NOT_FLOATING = frozenset(  # with results that are no floating-point tensors
    (
        "long int short bool byte item size dim ndim numel nelement tolist numpy argmax argmin argsort nonzero eq ne gt lt ge le "
        "isnan isinf isfinite logical_and logical_or logical_not data_ptr element_size is_floating_point arange randint "
        "randperm multinomial bincount allclose equal is_tensor len isinstance range str print format any all searchsorted "
        "one_hot finfo device no_grad manual_seed get_device stride backward requires_grad_ hasattr getattr id type"
    ).split()
)
WIDE = frozenset(  # float32 on CUDA, as it comes on the CPU (or the other way round)
    (
        "softmax log_softmax softmin exp log log10 log2 log1p expm1 pow sum prod norm cumsum cumprod mean var std logsumexp "
        "softplus layer_norm group_norm rms_norm cosine_similarity cdist pdist dist renorm rsqrt reciprocal tan acos asin cosh "
        "sinh erfinv mse_loss l1_loss smooth_l1_loss nll_loss cross_entropy kl_div binary_cross_entropy_with_logits "
        "gumbel_softmax interpolate upsample cat stack index_put scatter_add where maximum minimum lerp normalize"
    ).split()
)

# layers ----------------------------------------------------------------------------------------------

MULTIPLYING = frozenset(  # with weights, in half under autocast
    (
        "Linear Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d LazyLinear LazyConv2d GRU LSTM RNN GRUCell "
        "LSTMCell RNNCell MultiheadAttention"
    ).split()
)
LAYERS = MULTIPLYING | frozenset(  # all that take floating-point tensors and give them
    (
        "BatchNorm1d BatchNorm2d BatchNorm3d LayerNorm GroupNorm InstanceNorm1d InstanceNorm2d Sigmoid Tanh Softmax LogSoftmax "
        "Softplus GELU SiLU ELU LeakyReLU Dropout Dropout2d RMSNorm"
    ).split()
)
FOLLOWING = frozenset(  # layers with results in the precision of what they get
    (
        "ReLU ReLU6 LeakyReLU ELU SELU CELU GELU SiLU Mish Tanh Sigmoid Hardtanh Hardswish Dropout Dropout1d Dropout2d Dropout3d "
        "Flatten Unflatten Identity MaxPool1d MaxPool2d MaxPool3d AvgPool1d AvgPool2d AvgPool3d AdaptiveAvgPool1d "
        "AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveMaxPool2d ZeroPad2d ReflectionPad2d PixelShuffle BatchNorm1d BatchNorm2d "
        "BatchNorm3d InstanceNorm1d InstanceNorm2d ChannelShuffle"
    ).split()
)
LOOKUPS = frozenset({"Embedding", "EmbeddingBag"})
PASSING = frozenset("ReLU Flatten Identity MaxPool1d MaxPool2d AvgPool2d AdaptiveAvgPool2d Unflatten".split())
TUPLES = frozenset("LSTM GRU RNN LSTMCell MultiheadAttention".split())  # with several results
CONTAINERS = frozenset({"Sequential", "ModuleList", "ModuleDict"})


def dtype_asked(call: ast.Call, names: Names) -> ast.expr | None:
    """The argument of a call that chooses a dtype: one of torch's by its name, or that of another tensor."""
    for argument in (*call.args, *(k.value for k in call.keywords)):
        if isinstance(argument, ast.Attribute) and (
            argument.attr == "dtype" or (argument.attr in DTYPE_NAMES and names.resolve(argument) in DTYPES)
        ):
            return argument
        if isinstance(argument, ast.Name) and names.resolve(argument) in DTYPES:
            return argument
    return None
