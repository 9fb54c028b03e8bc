"""Where the detectors' limits come from, and how well they tell failures apart: commands that anyone can run again.

    python -m jobs.calibration healthy --work DIR      three data sets x three seeds: the range of each detector's value
    python -m jobs.calibration confusion --work DIR    planted failures x detectors; begins with the healthy runs

Both go on where they were stopped, print their table, and keep it in jobs/examples/ with date and command.
"""
