"""Write every fixture's .out.py and .diag.txt from what the converter gives now.

`PYTHONPATH=. python -m tests.fixtures_suite.update [WORD]`; a WORD limits it to the cases whose name
contains it. Read the diff before believing it.
"""

import sys
from collections import Counter

from tests.fixtures_suite.cases import ROOT, all_cases, converted, expected_files, migrations


def main(word: str = "") -> None:
    statuses: Counter[str] = Counter()
    for case in (*all_cases(), *migrations()):
        if word not in case.name:
            continue
        result = converted(case.source)
        statuses[result.status] += 1
        for path, content in expected_files(case, result).items():
            before = path.read_bytes() if path.exists() else None
            if content == before:
                continue
            print("remove" if content is None else "write ", path.relative_to(ROOT))
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
    print(", ".join(f"{count} {status}" for status, count in sorted(statuses.items())))


if __name__ == "__main__":
    main(*sys.argv[1:2])
