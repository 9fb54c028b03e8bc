"""The stand-in for training as a process: keeps the contract of `gankiln run`, resumes, and saves itself on SIGTERM.

    python tests/study_job.py SPEC --out DIR

Imports nothing heavy: it starts in a tenth of a second. What it reaches follows from the spec and its seed alone.
"""

import base64
import hashlib
import json
import math
import random
import re
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fake_job import checkpoint, resume, say

STEPS, STEP_SECONDS, EVALUATED_EVERY = 8, 0.05, 2
HOPELESS_GAMMA, PATIENCE_SECONDS = 1000, 20.0
"""A run with such a gamma waits at its first evaluation, so that whoever may give it up has the time to."""
PICTURE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def main():
    spec, out = Path(sys.argv[1]), Path(sys.argv[sys.argv.index("--out") + 1])
    out.mkdir(parents=True, exist_ok=True)
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    text = spec.read_text()
    (out / "spec.yaml").write_text(text)
    total, end = int(_number(text, r"\ntraining:\n  images")), _reached(text)
    start, _ = resume(out)
    step = start * 10 * STEPS // total
    say(out, "phase", phase="preparing")
    say(out, "start", images=start * 10, attempt=1)
    while step < STEPS:
        time.sleep(STEP_SECONDS)
        step += 1
        images = total * step // STEPS
        say(out, "progress", images=images, target_images=total, images_per_second=9.0, losses={"g": 1 / step})
        if step % EVALUATED_EVERY == 0:
            say(out, "evaluation", images=images, rows=[_row(end, step, total)])
            if _gamma(text) >= HOPELESS_GAMMA and step == EVALUATED_EVERY:
                _wait_for(asked)
        checkpoint(out, images // 10, b"state", {})
        path = out / f"samples/{images:09d}.png"
        path.write_bytes(PICTURE)
        say(out, "samples", images=images, path=f"samples/{path.name}")
        if asked:
            _report(out, text, end, step, total, "interrupted")
            sys.exit(143)
    _report(out, text, end, STEPS, total, "finished")
    (out / "report.html").write_text("<html>report</html>")
    say(out, "end", images=total, outcome="finished")


def _wait_for(asked):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not asked and time.monotonic() < deadline:
        time.sleep(0.05)


def _reached(text):
    """Best at gamma 10; what a seed adds is the same for all variants, up to a little of a run's own."""
    gamma, seed = _gamma(text), int(_number(text, r"\nseed"))
    recipe = re.sub(r"^(name|question): .*$", "", text, flags=re.MULTILINE)
    own = random.Random(hashlib.sha256(recipe.encode()).hexdigest()).gauss(0, 0.1)
    return 10 + math.log10(max(gamma, 1e-3) / 10) ** 2 + random.Random(seed).gauss(0, 1) + own


def _gamma(text):
    return _number(text, r"\n  r1:\n    gamma")


def _number(text, key):
    return float(re.search(key + r": ([\d.e+-]+)", f"\n{text}").group(1))


def _row(end, step, total):
    value = end * (2 - step / STEPS)
    return {"metric": "fd", "features": "random_conv", "value": value, "images": total * step // STEPS, "samples": 32}


def _report(out, text, end, step, total, outcome):
    images = total * step // STEPS
    evaluated = range(EVALUATED_EVERY, step + 1, EVALUATED_EVERY)
    grids = sorted(out.glob("samples/*.png"))
    report = {
        "name": "stand-in", "recipe": "stylegan2", "seed": int(_number(text, r"\nseed")), "images": images,
        "images_planned": total, "seconds": images / 10, "device": "stand-in", "outcome": outcome, "written": 0.0,
        "metrics": [_row(end, step, total) for step in evaluated],
        "verdicts": [{"detector": "collapse", "verdict": "healthy", "images": images}],
        "samples": [{"images": int(path.stem), "path": f"samples/{path.name}"} for path in grids],
        "versions": {"gankiln": "0.1.0"},
    }  # fmt: skip
    (out / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
