"""The command: runs a script as `__main__` and observes it, and the Python processes that it starts."""

import argparse
import json
import os

from ampify_observe.begin import begin
from ampify_observe.settings import Settings
from ampify_observe.sources import run


def main() -> None:
    """Reads the command line and runs the script; it ends as the script does, or with 0 after the wanted steps."""
    parser = argparse.ArgumentParser(
        prog="python -m ampify_observe",
        description="Run a training script and write down what its optimizers see, a line of JSON a step and a file a process.",
    )
    parser.add_argument("record", help="the directory to write to")
    parser.add_argument("--steps", type=int, default=20, help="stop when an optimizer has tried so many (default: 20)")
    parser.add_argument("--seed", type=int, default=0, help="of random, numpy and torch (default: 0)")
    parser.add_argument("--sources", default="", help="a file of JSON: what is read in the place of which file, by real paths")
    parser.add_argument("--keep", default="", help="keep the first gradients of each optimizer in this directory")
    parser.add_argument("--reference", default="", help="compare them with those that were kept there")
    parser.add_argument("--cuda-policy", action="store_true", help="let autocast on the CPU follow CUDA's lists of operators")
    parser.add_argument("--rounding", default="", help="compute the outermost modules in this dtype: what rounding alone does")
    parser.add_argument("script")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    given = parser.parse_args()
    sources = {}
    if given.sources:
        with open(given.sources, encoding="utf-8") as file:
            sources = json.load(file)
    settings = Settings(
        record=os.path.abspath(given.record),
        steps=given.steps,
        seed=given.seed,
        sources=sources,
        keep=given.keep and os.path.abspath(given.keep),
        reference=given.reference and os.path.abspath(given.reference),
        cuda_policy=given.cuda_policy,
        rounding=given.rounding,
    )
    settings.hand_on()
    begin(settings)
    run(given.script, given.arguments)


if __name__ == "__main__":
    main()
