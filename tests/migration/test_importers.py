"""Names that other files take from the one that is migrated: they call them as they are."""

from pathlib import Path

import pytest

from ampify.convert import Options
from ampify.project import run

OLD = "from torch.cuda.amp import autocast, GradScaler\n\n\ndef region():\n    return autocast()\n"
NEW = 'from torch.amp import autocast, GradScaler\n\n\ndef region():\n    return autocast("cuda")\n'


def converted(folder: Path, script: str) -> str:
    (folder / "tools.py").write_text(OLD)
    (folder / "train.py").write_text(script)
    list(run([str(folder)], Options(), write=True))
    return (folder / "tools.py").read_text()


@pytest.mark.parametrize(
    "script",
    [
        "from tools import autocast\n\nwith autocast():\n    pass\n",
        "from tools import *\n\nwith autocast():\n    pass\n",
        "import tools\n\nwith tools.autocast():\n    pass\n",
        "import tools as t\n\nwith t.autocast():\n    pass\n",
    ],
)
def test_what_others_take_stays(tmp_path: Path, script: str) -> None:
    assert converted(tmp_path, script).splitlines()[-1] == "    return autocast()"


@pytest.mark.parametrize(
    "script",
    [
        "from tools import region\n\nwith region():\n    pass\n",
        "import tools\n\nargs.autocast = tools.region()\n",
        "import torch\nfrom tools import *\n\nwith region(), torch.autocast('cuda'):\n    pass\n",
    ],
)
def test_what_nobody_takes_goes(tmp_path: Path, script: str) -> None:
    assert converted(tmp_path, script) == NEW
