"""Every benchmark after another, at sizes that take minutes: python -m tests.benchmarks  (or: make bench)"""

import subprocess
import sys
from pathlib import Path

QUICK = {"bench_step": ["--seconds", "5", "--resolution", "32", "--widths", "demo"]}
"""Arguments that keep a benchmark short; each says with --help what else it can measure."""


def main() -> int:
    failed = []
    for path in sorted(Path(__file__).parent.glob("bench_*.py")):
        print(f"\n== {path.stem}", flush=True)
        command = [sys.executable, "-m", f"tests.benchmarks.{path.stem}", *QUICK.get(path.stem, [])]
        if subprocess.run(command, check=False).returncode:
            failed.append(path.stem)
    print(f"\nfailed: {', '.join(failed)}" if failed else "\nall benchmarks ran")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
