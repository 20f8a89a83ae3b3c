"""Rules: the numeric hazards of half precision, one file a rule, and the list of them."""

from ampify.plan.rules import (
    bce_loss,
    compiled,
    custom_function,
    double,
    fp32_only_op,
    half_escape,
    index_write,
    jit_trace,
    mask_constants,
    nonfinite_check,
    nonlinear_backward,
    out_inplace,
    random_like,
    running_sum,
    small_eps,
    threads,
)
from ampify.plan.rules.base import Rule

RULES: tuple[Rule, ...] = (
    bce_loss.RULE,
    mask_constants.RULE,
    small_eps.RULE,
    index_write.RULE,
    out_inplace.RULE,
    fp32_only_op.RULE,
    custom_function.RULE,
    half_escape.RULE,
    nonfinite_check.RULE,
    double.RULE,
    compiled.RULE,
    running_sum.RULE,
    threads.RULE,
    jit_trace.RULE,
    nonlinear_backward.RULE,
    random_like.RULE,
)
MESSAGES = {rule.code: rule.message for rule in RULES}
SLIGHT = frozenset(rule.code for rule in RULES if not rule.grave)
HAZARDS = {rule.code: rule.hazard for rule in RULES}
