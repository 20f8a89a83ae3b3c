"""Old spellings of torch.cuda.amp and torch.cpu.amp: what is written for each, and what is left alone."""

import pytest

from ampify.convert import Result, convert

HEAD = "import torch\n"
REWRITTEN = {
    "a region": ("with torch.cuda.amp.autocast():\n    pass\n", 'with torch.amp.autocast("cuda"):\n    pass\n'),
    "of the CPU": ("with torch.cpu.amp.autocast():\n    pass\n", 'with torch.amp.autocast("cpu"):\n    pass\n'),
    "enabled by position": ("c = torch.cuda.amp.autocast(on)\n", 'c = torch.amp.autocast("cuda", enabled=on)\n'),
    "enabled by keyword": ("c = torch.cuda.amp.autocast(enabled=on)\n", 'c = torch.amp.autocast("cuda", enabled=on)\n'),
    "all by position": (
        "c = torch.cuda.amp.autocast(True, torch.half, False)\n",
        'c = torch.amp.autocast("cuda", enabled=True, dtype=torch.half, cache_enabled=False)\n',
    ),
    "a dict of keywords": ("c = torch.cuda.amp.autocast(**more)\n", 'c = torch.amp.autocast("cuda", **more)\n'),
    "a trailing comma": ("c = torch.cuda.amp.autocast(on,)\n", 'c = torch.amp.autocast("cuda", enabled=on,)\n'),
    "parentheses of its own": ("c = torch.cuda.amp.autocast((on))\n", 'c = torch.amp.autocast("cuda", enabled=(on))\n'),
    "spaces": ("c = torch . cuda . amp . autocast ( on )\n", 'c = torch . amp . autocast ( "cuda", enabled=on )\n'),
    "a line each": (
        "c = torch.cuda.amp.autocast(\n    on,  # or not\n    torch.half,\n)\n",
        'c = torch.amp.autocast(\n    "cuda",\n    enabled=on,  # or not\n    dtype=torch.half,\n)\n',
    ),
    "broken somewhere": (
        "c = torch.cuda.amp.autocast(on,\n                            torch.half)\n",
        'c = torch.amp.autocast("cuda", enabled=on,\n                            dtype=torch.half)\n',
    ),
    "continued": ("c = torch.cuda \\\n    .amp.autocast()\n", 'c = torch \\\n    .amp.autocast("cuda")\n'),
    "single quotes": ("x = 'a'\nc = torch.cuda.amp.autocast()\n", "x = 'a'\nc = torch.amp.autocast('cuda')\n"),
    "its module": (
        "c = torch.cuda.amp.autocast_mode.autocast(on)\n",
        'c = torch.amp.autocast_mode.autocast("cuda", enabled=on)\n',
    ),
    "a decorator": (
        "@torch.cuda.amp.autocast()\ndef f(): pass\n",
        '@torch.amp.autocast("cuda")\ndef f(): pass\n',
    ),
    "a scaler": ("s = torch.cuda.amp.GradScaler()\n", 's = torch.amp.GradScaler("cuda")\n'),
    "a scaler by position": ("s = torch.cuda.amp.GradScaler(2.0**10, 2)\n", 's = torch.amp.GradScaler("cuda", 2.0**10, 2)\n'),
    "a scaler by keyword": ("s = torch.cuda.amp.GradScaler(enabled=on)\n", 's = torch.amp.GradScaler("cuda", enabled=on)\n'),
    "a scaler of a list": ("s = torch.cuda.amp.GradScaler(*a, **k)\n", 's = torch.amp.GradScaler("cuda", *a, **k)\n'),
    "a scaler of the CPU": ("s = torch.cpu.amp.GradScaler()\n", 's = torch.amp.GradScaler("cpu")\n'),
    "a state": ("s = torch.cuda.amp.grad_scaler.OptState.READY\n", "s = torch.amp.grad_scaler.OptState.READY\n"),
    "custom functions": (
        "class F:\n    @torch.cuda.amp.custom_fwd\n    def forward(): pass\n    @torch.cuda.amp.custom_bwd\n"
        "    def backward(): pass\n",
        'class F:\n    @torch.amp.custom_fwd(device_type="cuda")\n    def forward(): pass\n'
        '    @torch.amp.custom_bwd(device_type="cuda")\n    def backward(): pass\n',
    ),
    "custom functions with a cast": (
        "@torch.cuda.amp.custom_fwd(cast_inputs=torch.float32)\ndef f(): pass\n",
        '@torch.amp.custom_fwd(cast_inputs=torch.float32, device_type="cuda")\ndef f(): pass\n',
    ),
    "custom functions called": ("f = torch.cuda.amp.custom_fwd(g)\n", 'f = torch.amp.custom_fwd(g, device_type="cuda")\n'),
    "a cast": (
        "y = torch.cuda.amp.autocast_mode._cast(x, torch.half)\n",
        'y = torch.amp.autocast_mode._cast(x, "cuda", torch.half)\n',
    ),
    "types": (
        "def f(s: torch.cuda.amp.GradScaler) -> 'None':\n    return isinstance(s, (int, torch.cuda.amp.GradScaler))\n",
        "def f(s: torch.amp.GradScaler) -> 'None':\n    return isinstance(s, (int, torch.amp.GradScaler))\n",
    ),
    "an optional type": (
        "def f(s: torch.cuda.amp.GradScaler | None = None): pass\n",
        "def f(s: torch.amp.GradScaler | None = None): pass\n",
    ),
    "a type that is asked for": (
        "def f(s): return type(s) is torch.cuda.amp.GradScaler\n",
        "def f(s): return type(s) is torch.amp.GradScaler\n",
    ),
    "from-imports": (
        "from torch.cuda.amp import autocast, GradScaler\ns = GradScaler(2.)\nwith autocast(): pass\n",
        'from torch.amp import autocast, GradScaler\ns = GradScaler("cuda", 2.)\nwith autocast("cuda"): pass\n',
    ),
    "from-imports with an alias": (
        "from torch.cuda.amp import autocast as ac\nwith ac(on): pass\n",
        'from torch.amp import autocast as ac\nwith ac("cuda", enabled=on): pass\n',
    ),
    "from-imports of a module": (
        "from torch.cuda.amp.grad_scaler import GradScaler\ns = GradScaler()\n",
        'from torch.amp.grad_scaler import GradScaler\ns = GradScaler("cuda")\n',
    ),
    "from-imports in parentheses": (
        "from torch.cuda.amp import (\n    autocast,  # one\n    GradScaler,\n)\ns = GradScaler()\nwith autocast(): pass\n",
        'from torch.amp import (\n    autocast,  # one\n    GradScaler,\n)\ns = GradScaler("cuda")\n'
        'with autocast("cuda"): pass\n',
    ),
    "an import that is not used goes along": (
        "from torch.cuda.amp import autocast, GradScaler\nwith autocast(): pass\n",
        'from torch.amp import autocast, GradScaler\nwith autocast("cuda"): pass\n',
    ),
    "one import of several": (
        "from torch.cuda.amp import autocast, amp_definitely_not_available as no\nwith autocast(not no()): pass\n",
        "from torch.amp import autocast\nfrom torch.cuda.amp import amp_definitely_not_available as no\n"
        'with autocast("cuda", enabled=not no()): pass\n',
    ),
    "the package": (
        "from torch.cuda import amp\ns = amp.GradScaler()\nwith amp.autocast(): pass\n",
        'from torch import amp\ns = amp.GradScaler("cuda")\nwith amp.autocast("cuda"): pass\n',
    ),
    "the package among others": (
        "from torch.cuda import amp, memory\ns = amp.GradScaler()\nmemory.empty_cache()\n",
        'from torch import amp\nfrom torch.cuda import memory\ns = amp.GradScaler("cuda")\nmemory.empty_cache()\n',
    ),
    "the package by a name": (
        "import torch.cuda.amp as amp\ns = amp.GradScaler()\n",
        'import torch.amp as amp\ns = amp.GradScaler("cuda")\n',
    ),
    "the package in full": (
        "import torch.cuda.amp\ns = torch.cuda.amp.GradScaler()\n",
        'import torch.amp\ns = torch.amp.GradScaler("cuda")\n',
    ),
    "a name for torch": (
        "import torch as th\nwith th.cuda.amp.autocast(): pass\n",
        'import torch as th\nwith th.amp.autocast("cuda"): pass\n',
    ),
    "a name for torch.cuda": (
        "import torch\nfrom torch import cuda\nwith cuda.amp.autocast(): pass\n",
        'import torch\nfrom torch import cuda\nwith torch.amp.autocast("cuda"): pass\n',
    ),
    "everything": (
        "from torch.cuda.amp import *\nwith autocast(): pass\n",
        'from torch.amp import *\nwith autocast("cuda"): pass\n',
    ),
    "everything of the author's own": (
        "from mine import *\nwith torch.cuda.amp.autocast(): pass\n",
        'from mine import *\nwith torch.amp.autocast("cuda"): pass\n',
    ),
    "under try": (
        "try:\n    from torch.cuda.amp import autocast\nexcept ImportError:\n    autocast = None\n"
        "if autocast is not None:\n    with autocast(): pass\n",
        "try:\n    from torch.amp import autocast\nexcept ImportError:\n    autocast = None\n"
        'if autocast is not None:\n    with autocast("cuda"): pass\n',
    ),
    "under if": (
        "if on:\n    from torch.cuda.amp import GradScaler\n    s = GradScaler()\n",
        'if on:\n    from torch.amp import GradScaler\n    s = GradScaler("cuda")\n',
    ),
    "behind a block": (
        "def f():\n    pass\n\nfrom torch.cuda.amp import GradScaler\ns = GradScaler()\n",
        'def f():\n    pass\n\nfrom torch.amp import GradScaler\ns = GradScaler("cuda")\n',
    ),
    "in a function": (
        "def f():\n    from torch.cuda.amp import GradScaler; return GradScaler()\n",
        'def f():\n    from torch.amp import GradScaler; return GradScaler("cuda")\n',
    ),
    "beside a parameter of that name": (
        "from torch.cuda import amp\ndef f(amp=False):\n    return amp.real\ns = amp.GradScaler()\n",
        'from torch import amp\ndef f(amp=False):\n    return amp.real\ns = amp.GradScaler("cuda")\n',
    ),
    "a name of the file's own": (
        "ac = torch.cuda.amp.autocast\nwith ac(on): pass\n",
        'ac = torch.amp.autocast\nwith ac("cuda", enabled=on): pass\n',
    ),
    "a name for the package": (
        "amp = torch.cuda.amp\nwith amp.autocast(): pass\n",
        'amp = torch.amp\nwith amp.autocast("cuda"): pass\n',
    ),
    "partial": (
        "from functools import partial\np = partial(torch.cuda.amp.autocast, enabled=on)\n"
        "q = partial(torch.cuda.amp.GradScaler)\n",
        'from functools import partial\np = partial(torch.amp.autocast, "cuda", enabled=on)\n'
        'q = partial(torch.amp.GradScaler, "cuda")\n',
    ),
    "partial by position": (
        "import functools\np = functools.partial(torch.cuda.amp.autocast, on)\n",
        'import functools\np = functools.partial(torch.amp.autocast, "cuda", enabled=on)\n',
    ),
    "a subclass": (
        "class S(torch.cuda.amp.GradScaler):\n    def __init__(self, scale):\n        super().__init__(scale)\ns = S(2.0)\n",
        'class S(torch.amp.GradScaler):\n    def __init__(self, scale):\n        super().__init__("cuda", scale)\ns = S(2.0)\n',
    ),
    "a subclass by name": (
        "class S(torch.cuda.amp.GradScaler):\n    def __init__(self):\n        torch.cuda.amp.GradScaler.__init__(self, 2.0)\n",
        'class S(torch.amp.GradScaler):\n    def __init__(self):\n        torch.amp.GradScaler.__init__(self, "cuda", 2.0)\n',
    ),
    "a subclass without a constructor": (
        "from torch.cuda.amp import GradScaler\nclass S(GradScaler):\n    pass\ns = S(2.0)\n",
        'from torch.amp import GradScaler\nclass S(GradScaler):\n    pass\ns = S("cuda", 2.0)\n',
    ),
    "a method": ("def f(s, o): torch.cuda.amp.GradScaler.step(s, o)\n", "def f(s, o): torch.amp.GradScaler.step(s, o)\n"),
    "dtypes that differ": (
        "with torch.cuda.amp.autocast(dtype=torch.bfloat16):\n    with torch.cuda.amp.autocast(): pass\n",
        'with torch.amp.autocast("cuda", dtype=torch.bfloat16):\n'
        '    with torch.amp.autocast("cuda", dtype=torch.float16): pass\n',
    ),
    "dtypes that differ, and off": (
        "with torch.autocast('cuda', torch.bfloat16):\n    with torch.cuda.amp.autocast(False): pass\n",
        "with torch.autocast('cuda', torch.bfloat16):\n    with torch.amp.autocast('cuda', enabled=False): pass\n",
    ),
}

LEFT = {
    "a list of arguments": ("with torch.cuda.amp.autocast(*a): pass\n", "positional arguments out of a list"),
    "not imported where it is read": (
        "def f():\n    from torch.cuda.amp import autocast\n    with autocast(): pass\n\ndef g():\n    with autocast(): pass\n",
        "is bound to something else as well, in line 7",
    ),
    "handed on": ("f(torch.cuda.amp.autocast)\n", "is handed on"),
    "the package handed on": ("from torch.cuda import amp\nf(amp)\n", "is handed on"),
    "one of two": ("from torch.cuda.amp import autocast\nc = autocast if on else None\nc()\n", "is handed on"),
    "decorates bare": ("@torch.cuda.amp.autocast\ndef f(): pass\n", "without parentheses"),
    "bound twice": (
        "try:\n    from torch.cuda.amp import autocast\nexcept ImportError:\n    class autocast: pass\nwith autocast(): pass\n",
        "is bound to something else as well, in line 5",
    ),
    "imported from both": (
        "try:\n    from torch.amp import GradScaler\nexcept ImportError:\n"
        "    from torch.cuda.amp import GradScaler\ns = GradScaler()\n",
        "is bound to something else as well, in line 5",
    ),
    "partial of nothing": ("import functools\np = functools.partial(torch.cuda.amp.autocast)\n", "is called later"),
    "a text": (
        "import importlib\nm = importlib.import_module('torch.cuda.amp')\nc = torch.autocast('cuda')\n",
        "the text 'torch.cuda.amp'",
    ),
    "getattr": ("a = getattr(torch.cuda.amp, 'autocast')\n", "by a text"),
    "no counterpart": ("torch.cuda.amp.common.amp_definitely_not_available()\n", "no counterpart"),
    "both devices": (
        "def f(s): return isinstance(s, torch.cuda.amp.GradScaler) or isinstance(s, torch.cpu.amp.GradScaler)\n",
        "tells scalers of one device from those of another",
    ),
    "a subclass of a region": ("class A(torch.cuda.amp.autocast):\n    pass\n", "has a subclass"),
    "all scalers": ("s = torch.cuda.amp.GradScaler()\nf(torch.cuda.amp.GradScaler)\n", "is handed on"),
    "an f-string": ("x = f'{torch.cuda.amp.autocast()}'\n", "is handed on"),
    "exported": ("from torch.cuda.amp import autocast\n__all__ = ['autocast']\nwith autocast(): pass\n", "`__all__`"),
    "comments in an import": (
        "from torch.cuda.amp import (\n    autocast,  # a\n    amp_definitely_not_available,\n)\n"
        "amp_definitely_not_available()\nwith autocast(): pass\n",
        "comments inside",
    ),
}


def migrated(source: str) -> Result:
    result = convert(source.encode())
    assert not result.bug, result.diagnostics
    return result


@pytest.mark.parametrize("case", REWRITTEN)
def test_what_is_written(case: str) -> None:
    head = "" if ("torch" in case and "name for" in case) or "in full" in case else HEAD
    before, after = REWRITTEN[case]
    result = migrated(head + before)
    assert (result.status, result.output.decode()) == ("converted", head + after)
    again = convert(result.output)
    assert (again.edits, again.output) == ((), result.output)
    assert again.status in ("already", "unchanged")


@pytest.mark.parametrize("case", LEFT)
def test_what_is_left_alone(case: str) -> None:
    before, why = LEFT[case]
    result = migrated(HEAD + before)
    assert (result.status, result.edits) == ("already", ())
    assert any(d.code == "AMP360" and d.severity == "info" and why in d.message for d in result.diagnostics)


def test_lines_keep_their_ends() -> None:
    result = migrated("import torch\r\ns = torch.cuda.amp.GradScaler(\r\n    enabled=on,\r\n)\r\n")
    assert result.output == b'import torch\r\ns = torch.amp.GradScaler(\r\n    "cuda",\r\n    enabled=on,\r\n)\r\n'


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
def test_encodings_are_kept(encoding: str) -> None:
    coding = "# -*- coding: latin-1 -*-\n" if encoding == "latin-1" else ""
    before = f"{coding}import torch\nx = 'é'; s = torch.cuda.amp.GradScaler(a['ü'])  # ö\n"
    result = convert(before.encode(encoding))
    after = before.replace(".cuda.", ".").replace("GradScaler(", "GradScaler('cuda', ")
    assert result.output == after.encode(encoding)


def test_the_edits_are_at_their_lines() -> None:
    result = migrated("from torch.cuda.amp import GradScaler\n\ns = GradScaler(\n    enabled=False\n)\n")
    assert [(e.code, e.line, e.end_line) for e in result.edits] == [("AMP353", 1, 1), ("AMP351", 3, 5)]
