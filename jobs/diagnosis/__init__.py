"""Named failure detectors, one file each, and the wiring check.

A detector reads one of four kinds of input (steps, snapshot, gallery, scores: see inputs.py), gives one number, and has
a limit with its origin. `table.py` lists them all; `examination.py` turns numbers into verdicts. Nothing here trains,
draws or writes: whoever runs a job hands the inputs over, and acts.
"""
