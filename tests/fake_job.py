"""A job that keeps the contract of `gankiln run` without torch: for tests of the worker. Starts in 50 ms.

    python fake_job.py SPEC --out DIR [options]

What it does is written in the spec's `question`, as JSON: {"steps": 20, "seconds": 0.05, "exit": 67, "at": 10, ...}.
Its state after n steps is a chain of hashes, so a run that was stopped and resumed ends with the same bytes as one that
was not, and with others if it resumed from anything else.
"""

import hashlib
import json
import os
import re
import signal
import sys
import time
from pathlib import Path

IMAGES = 10  # a step


def main():
    spec, out = Path(sys.argv[1]), Path(sys.argv[sys.argv.index("--out") + 1])
    out.mkdir(parents=True, exist_ok=True)
    plan = {"steps": 20, "seconds": 0.02, "every": 5, **behaviour(spec.read_text())}
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    step, state = resume(out)
    say(out, "phase", phase="preparing")
    say(out, "start", images=step * IMAGES, attempt=1)
    say(out, "phase", phase="training")
    time.sleep(plan.get("startup", 0))
    (out / "spec.yaml").write_text(spec.read_text())
    while step < plan["steps"]:
        misbehave(plan, step, out)
        time.sleep(plan["seconds"])
        state = hashlib.sha256(state).digest()
        step += 1
        say(
            out,
            "progress",
            images=step * IMAGES,
            target_images=plan["steps"] * IMAGES,
            images_per_second=99.0,
            seconds=float(step),
            time_seconds={"training": float(step)},
            losses={"generator": 1.0 / step},
            statistics={},
            waiting_ratio=0.0,
            memory_bytes=1,
        )
        print(f"step {step}", flush=True)
        if asked or step % plan["every"] == 0 or step == plan["steps"]:
            checkpoint(out, step, state, plan)
        if asked:
            sys.exit(143)
    say(out, "phase", phase="evaluating")
    say(out, "evaluation", images=step * IMAGES, rows=[{"metric": "fd", "features": "pixels", "value": 1.0}])
    (out / "report.json").write_text(json.dumps({"images": step * IMAGES, "state": state.hex()}))
    (out / "report.html").write_text("<html>report</html>")
    say(out, "end", images=step * IMAGES, seconds=1.0, outcome="finished")


def behaviour(text):
    found = re.search(r"^question: '(.*)'$", text, re.MULTILINE)
    return json.loads(found.group(1)) if found else {}


def resume(out):
    complete = sorted((out / "checkpoints").glob("*/MANIFEST.json")) if (out / "checkpoints").exists() else []
    if not complete:
        return 0, b"start"
    images = int(complete[-1].parent.name)
    return images // IMAGES, (complete[-1].parent / "state.pt").read_bytes()


def checkpoint(out, step, state, plan):
    final = out / "checkpoints" / f"{step * IMAGES:09d}"
    aside = out / "checkpoints" / f".writing-{step * IMAGES:09d}"
    if final.exists():
        return
    aside.mkdir(parents=True)
    (aside / "state.pt").write_bytes(state)
    (aside / "generator.safetensors").write_bytes(bytes(plan.get("weights_bytes", 100)))
    (aside / "MANIFEST.json").write_text(json.dumps({"images": step * IMAGES}))
    aside.rename(final)
    (out / "samples").mkdir(exist_ok=True)
    (out / "samples" / f"{step * IMAGES:09d}.png").write_bytes(b"png" + state)
    say(out, "samples", images=step * IMAGES, path=f"samples/{step * IMAGES:09d}.png")
    say(out, "checkpoint", images=step * IMAGES, path=str(final), seconds=0.01, bytes=100)
    for old in sorted(path for path in (out / "checkpoints").iterdir() if not path.name.startswith("."))[:-2]:
        for file in old.iterdir():
            file.unlink()
        old.rmdir()


def misbehave(plan, step, out):
    if step != plan.get("at", 0) or not first_time(plan.get("once")):
        return
    if "say" in plan:
        print(plan["say"], flush=True)
    if "read" in plan:
        (out / "read.txt").write_text(Path(plan["read"]).read_text())
    if "signal" in plan:
        os.kill(os.getpid(), plan["signal"])
    if "hang" in plan:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(plan["hang"])
    if "exit" in plan:
        sys.exit(plan["exit"])


def first_time(marker):
    """Only the first attempt that gets here misbehaves, when there is a marker file to tell."""
    try:
        if marker:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def say(out, event, **fields):
    with (out / "events.jsonl").open("a") as file:
        file.write(json.dumps({"event": event, "time": time.time(), **fields}) + "\n")


if __name__ == "__main__":
    main()
