"""Operations without half precision: inverses, decompositions, Fourier transforms, quantiles, sparse products

What it finds: an operand that may be in half precision of an operation that has no kernel for it, or loses too much in it:
`torch.linalg.*` and its older spellings, `torch.fft.*`, `quantile`, `histc`, `torch.complex` and `polar`, `ctc_loss`,
the `per_sample_weights` of an embedding bag, and products with sparse matrices.

Why it matters: most raise, `"lu_cpu" not implemented for 'Half'`, `Low precision dtypes not supported. Got Half`,
`quantile() input tensor must be either float or double dtype`. The CPU's autocast casts some of them, CUDA's none.

Before:

    precision = torch.linalg.inv(covariance)
    output = torch.sparse.mm(adjacency, support)

After:

    precision = torch.linalg.inv(covariance.float())
    with autocast(enabled=False):
        output = torch.sparse.mm(adjacency.float(), support.float())

Safety: safe. `.float()` does nothing in float32. Autocast is switched off only for operations that multiply matrices
themselves, since these would be cast again. Operands that may be complex or integers, and files that work in are
reported instead.

Source: "Autocast Op Reference" (none of these is on CUDA's lists).
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ampify.analysis.callees import layers
from ampify.analysis.names import dotted
from ampify.analysis.precision import Precision
from ampify.plan.rules.base import Finding, Rule
from ampify.plan.rules.site import Site, halves

ONE = frozenset(  # of one matrix; torch's and torch.linalg's spellings
    (
        "inverse inv inv_ex det logdet slogdet cholesky cholesky_ex cholesky_inverse qr svd svdvals eig eigh eigvals eigvalsh lu "
        "lu_factor matrix_exp tensorinv ldl_factor geqrf symeig"
    ).split()
)
TWO = frozenset(
    (
        "solve solve_ex solve_triangular triangular_solve lstsq cholesky_solve lu_solve tensorsolve orgqr householder_product "
        "complex polar"
    ).split()
)
FOURIER = frozenset("rfft rfft2 rfftn ihfft fft fft2 fftn ifft ifft2 ifftn stft".split())
OTHER = frozenset("quantile nanquantile histc histogram histogramdd view_as_complex ctc_loss".split())
METHODS = frozenset("inverse det logdet slogdet cholesky qr svd pinverse quantile nanquantile histc matrix_exp".split())
PRODUCTS = frozenset(
    "pinv pinverse svd_lowrank pca_lowrank lobpcg spmm".split()
)  # these multiply matrices, also if given float32
SPARSE = frozenset("to_sparse to_sparse_csr to_sparse_coo to_sparse_csc sparse_coo_tensor sparse_csr_tensor".split())
MATMULS = frozenset("mm matmul addmm".split())
REAL = frozenset(
    "rfft rfft2 rfftn ihfft quantile nanquantile histc histogram ctc_loss embedding_bag complex polar view_as_complex".split()
)
WORDS = ONE | TWO | FOURIER | OTHER | METHODS | PRODUCTS | SPARSE | {"sparse", "CTCLoss", "per_sample_weights"}
KEYWORDS = frozenset("input A B other real imag abs angle log_probs".split())


def find(node: ast.AST, at: Site) -> Iterator[Finding]:
    """The operands of one operation."""
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.MatMult) and _sparse(node.left, at):
            yield from _product(node, [node.left, node.right], at)
        return
    assert isinstance(node, ast.Call)
    name = at.resolve(node.func)
    last = node.func.attr if isinstance(node.func, ast.Attribute) else name.rpartition(".")[2]
    torch = name.startswith("torch.")
    given = [*node.args, *(k.value for k in node.keywords if k.arg in KEYWORDS)]
    if not torch and isinstance(node.func, ast.Attribute):
        given = [node.func.value, *given]
    if (name.startswith("torch.sparse.") and last in ("mm", "addmm")) or (torch and last in PRODUCTS):
        yield from _product(node, given, at)
    elif last in MATMULS and any(_sparse(a, at) for a in given[:2]):
        yield from _product(node, given, at)
    elif not torch and last in METHODS and at.tensor(given[0]):
        yield from _product(node, given[:1], at) if last in PRODUCTS else _single(node, given[:1], last, at)
    elif torch and last in ONE | FOURIER | OTHER:
        yield from _single(node, given[:1], last, at)
    elif torch and last in TWO:
        yield from _single(node, given[:2], last, at)
    weights = [k.value for k in node.keywords if k.arg == "per_sample_weights"]
    if weights and at.half(weights[0]):
        yield from _single(node, weights, "embedding_bag", at)
    elif not torch and node.args and layers(node.func, at.frame, at.file.roles) == {"CTCLoss"}:
        yield from _single(node, node.args[:1], "ctc_loss", at)


def _single(node: ast.AST, operands: list[ast.expr], last: str, at: Site) -> Iterator[Finding]:
    """Operands that float32 is enough for."""
    half = [a for a in operands if at.half(a) and not isinstance(a, ast.Starred)]
    if not half:
        return
    if at.file.float64:
        yield Finding(node, (), f"`{last}` in a file that works in float64")
    elif last not in REAL and any(at.complex(a) for a in half):
        if at.of(half[0]) is not Precision.MAYBE:
            return  # complex numbers are no floating ones: autocast leaves them alone
        yield Finding(node, (), f"`{last}` of `{ast.unparse(half[0])[:30]}`, which may be complex")
    else:
        yield Finding(node, tuple(at.float(a) for a in half))


def _product(node: ast.AST, operands: list[ast.expr], at: Site) -> Iterator[Finding]:
    """An operation that autocast itself casts: the whole statement is left out of it, and all that enters it is cast."""
    entering = halves(at.stmt, operands, at)
    doubtful = [e for e in entering if not (any(e is a for a in operands) or at.floating(e))]
    if at.file.float64 and entering:
        yield Finding(node, (), "in a file that works in float64")
    elif not at.stands_apart() or doubtful:
        where = f", beside `{ast.unparse(doubtful[0])[:30]}`" if doubtful else ""
        yield Finding(node, (), f"`{ast.unparse(node)[:40]}`{where}")
    elif not any(at.complex(a) for a in operands):
        yield Finding(node, (at.disabled(), *(at.float(e) for e in entering)))


def _sparse(node: ast.expr, at: Site) -> bool:
    """Whether an expression is a sparse matrix for certain."""
    values = [value for value, _ in at.file.roles.sources(dotted(node), at.frame)] if dotted(node) else [node]
    return any(_makes_sparse(value) for value in values)


def _makes_sparse(node: ast.expr) -> bool:
    while isinstance(node, ast.Call):
        last = node.func.attr if isinstance(node.func, ast.Attribute) else dotted(node.func)
        if last in SPARSE:
            return True
        node = node.func.value if isinstance(node.func, ast.Attribute) else node.func
    return False


RULE = Rule(
    "AMP214",
    "fp32-only-op",
    "safe",
    "an operation without half precision gets what may be half",
    "computes in float32 what has no half precision",
    "give it float32: `tensor.float()`",
    nodes=(ast.BinOp, ast.Call),
    words=WORDS,
    find=find,
)
