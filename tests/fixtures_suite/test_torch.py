"""Every fixture through --runtime torch: the plain torch.amp code is proved, erased, run on a machine without a GPU, and with its
scaler and its autocast forced on."""

import pytest

from ampify.convert import Options, Result, convert
from tests.fixtures_suite.cases import NOT_RUN, TOLERANCE, Case, all_cases
from tests.fixtures_suite.compare import close_problems, exact_problems
from tests.fixtures_suite.eraser import erasure_problems
from tests.fixtures_suite.forks import ForkServer

TORCH = Options(runtime="torch")
CASES = [case for case in all_cases() if case.family not in NOT_RUN and case.is_converted]
RESULTS: dict[str, Result] = {case.name: convert(case.source, TORCH) for case in CASES}
CONVERTED = [case for case in CASES if RESULTS[case.name].status == "converted"]
each_converted = pytest.mark.parametrize("case", CONVERTED, ids=lambda case: case.name)
each_fifth = pytest.mark.parametrize("case", CONVERTED[::5], ids=lambda case: case.name)

# Converted for the runtime, refused for torch's own scaler: a step that may be without gradients, closures, penalties, FSDP1.
NEED_THE_RUNTIME = {
    "accumulation/inner_micro_loop",
    "accumulation/leftover_after_loop",
    "basic/one_line_backward_body",
    "calls/helper_with_an_optimizer_of_its_own",
    "closures/keyword_and_batches",
    "closures/lbfgs",
    "closures/sgd",
    "closures/strong_wolfe_clipped",
    "distributed/fsdp1",
    "distributed/fsdp1_accumulation",
    "evaluation/sampling_of_inner_network",
    "functions/activation_in_functions",
    "functions/attacked_and_checkpointed",
    "functions/clipped_linear",
    "functions/softened_penalty",
    "functions/straight_through",
    "hazards/bce_loss",
    "hazards/bce_loss_gan",
    "hazards/bce_loss_optional_sigmoid",
    "hazards/bce_loss_saturated",
    "hazards/custom_function",
    "penalties/lbfgs_matching_gradients",
    "penalties/loss_in_the_gradient_line",
    "penalties/maml_inner_loop",
    "penalties/r1_import_spellings",
    "penalties/wgan_gp",
    "scripts/star_imports",
}


def test_what_needs_the_runtime() -> None:
    refused = {name: result for name, result in RESULTS.items() if result.status != "converted"}
    assert refused.keys() == NEED_THE_RUNTIME
    for result in refused.values():
        assert {d.code for d in result.diagnostics} == {"AMP923"}


@each_converted
def test_nothing_but_torch_is_needed(case: Case) -> None:
    output = RESULTS[case.name].output
    assert b"ampify" not in output.replace(b"# ampify: ", b"")
    assert erasure_problems(case.source, output) == []
    again = convert(output, TORCH)
    assert (again.status, again.output) == ("already", output)
    assert convert(output).status == "already"


@pytest.mark.parametrize("mode", ["torch", "torch scaling", "torch growing"])
@each_converted
def test_trains_identically(case: Case, mode: str, server: ForkServer) -> None:
    problems = exact_problems(server.run(case.source, "original"), server.run(RESULTS[case.name].output, mode))
    assert problems == []


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
@each_fifth
def test_half_precision_is_close(case: Case, dtype: str, server: ForkServer) -> None:
    output = convert(case.source, Options(dtype, "torch")).output  # type: ignore[arg-type]
    reference, candidate = server.run(case.source, "original"), server.run(output, "torch half")
    assert close_problems(reference, candidate, TOLERANCE[dtype]) == []
