"""Damage to the import of the runtime."""

import re
from collections.abc import Iterator

from tests.proof.operators import IMPORT, STEP, found, indent, operator, removing


@operator
def drop_the_import(text: str) -> Iterator[str]:
    yield from removing(text, IMPORT)


@operator
def import_too_late(text: str) -> Iterator[str]:
    for lines, at in found(text, IMPORT):
        line = lines.pop(at)
        yield "\n".join(lines).rstrip("\n") + f"\n{line}\n"


@operator
def import_too_little(text: str) -> Iterator[str]:
    if "import autocast, scaler\n" in text:
        yield text.replace("import autocast, scaler\n", "import scaler\n")
        yield text.replace("import autocast, scaler\n", "import autocast\n")


@operator
def import_over_another_name(text: str) -> Iterator[str]:
    if "import autocast, scaler\n" in text and "import torch\n" in text:
        yield text.replace("import autocast, scaler\n", "import autocast, configure as torch, scaler\n")


@operator
def import_from_elsewhere(text: str) -> Iterator[str]:
    yield text.replace("from ampify_runtime import", "from ampify_runtimes import")


@operator
def rename_the_scaler(text: str) -> Iterator[str]:
    for match in re.finditer(r"\bscaler\.", text):
        yield text[: match.start()] + "scalar." + text[match.end() :]


@operator
def configure_in_the_loop(text: str) -> Iterator[str]:
    if "import autocast, scaler\n" in text:
        for lines, at in found(text.replace("import autocast, scaler\n", "import autocast, configure, scaler\n"), STEP):
            lines.insert(at, " " * indent(lines[at]) + "configure(mode='bf16')")
            yield "\n".join(lines)


@operator
def swap_the_runtimes_names(text: str) -> Iterator[str]:
    if "import autocast, scaler\n" in text:
        yield text.replace("import autocast, scaler\n", "import autocast as scaler, scaler as autocast\n")


@operator
def configure_what_nobody_asked_for(text: str) -> Iterator[str]:
    line = "from ampify_runtime import autocast, scaler\n"
    if line in text:
        new = "from ampify_runtime import autocast, configure, scaler\n"
        for call in (
            'configure(mode="off")',
            'configure(mode="scale-only")',
            "configure(init_scale=1.0)",
            'configure(device="cpu")',
        ):
            yield text.replace(line, new + call + "\n")
