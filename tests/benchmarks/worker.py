"""Time the loops of one comparison against each other, in this process; overhead.py runs it in the peers' environment.

Arguments: a JSON file of source by loop, the first being the reference, and a seed. The last line printed is JSON.
"""

import gc
import json
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch

TURNS = 40
BLOCK = 0.02  # seconds
WARM_UP = 50  # steps: the scale has come down from its overflows, Adam's state is there


def main(job: str, seed: str) -> None:
    torch.set_num_threads(1)
    random.seed(int(seed))
    sources = list(json.loads(Path(job).read_text()).items())
    reference = sources[0][0]
    random.shuffle(sources)  # who comes first gets the better memory
    loops: dict[str, dict[str, Any]] = {}
    for name, source in sources:
        loops[name] = {"__name__": "loop"}
        exec(compile(source, name, "exec"), loops[name])
        loops[name]["train"](WARM_UP)

    # The same number of steps for all loops: their scales then change in the same turns.
    began = time.process_time()
    loops[reference]["train"](WARM_UP)
    steps = max(1, round(BLOCK * WARM_UP / (time.process_time() - began)))
    for name in loops.keys() - {reference}:
        loops[name]["train"](WARM_UP)

    times: dict[str, list[float]] = {name: [] for name in loops}
    gc.collect()
    gc.disable()
    for _ in range(TURNS):
        for name in random.sample(list(loops), len(loops)):
            train = loops[name]["train"]
            began = time.process_time()
            train(steps)
            times[name].append((time.process_time() - began) / steps)
        gc.collect()

    final = {name: [p.detach() for p in loop["model"].parameters()] for name, loop in loops.items()}
    report = {
        name: {
            "ratio": statistics.median(mine / its for mine, its in zip(times[name], times[reference], strict=True)),
            "fastest": 1e6 * min(times[name]),
            "same": all(torch.equal(a, b) for a, b in zip(final[name], final[reference], strict=True)),
        }
        for name in loops
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(*sys.argv[1:])
