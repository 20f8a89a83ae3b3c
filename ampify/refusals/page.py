"""What a refusal teaches: why it stands, where the rule comes from, and the smallest change by hand that ends it."""

from typing import NamedTuple

EXAMPLES = "the notes on automatic mixed precision examples of PyTorch"
REFERENCE = "the torch.amp reference"


class Page(NamedTuple):
    """The page of a refusal's code.

    `before` is refused with it and `after` is converted, behind the usual imports of torch, a `model`, its `optimizer`, a
    `criterion` and the batches `data`. Where both are empty no change of the code ends the refusal, and `instead` says what may.
    """

    why: str
    source: str
    before: str = ""
    after: str = ""
    instead: str = ""
