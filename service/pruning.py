"""Gives up trials of a search while they run: at every evaluation one look at the others, in a thread of its own.

The decision is a request to cancel, like that of a person: it reaches the run with the next heartbeat. A store that
does not answer, or anything else that goes wrong here, lets the trial go on.
"""

import threading
from pathlib import Path
from typing import Any

from jobs.study.results import curve_so_far
from jobs.study.search import should_prune
from service.queue import JobState, Queue
from service.studies import Studies, study_of, trial_of
from service.telemetry.logs import Log


class Pruning:
    """Watches the trials that one worker runs. It has a queue of its own: it works beside the worker's."""

    def __init__(self, queue: Queue, studies: Studies, log: Log) -> None:
        self._queue, self._studies, self._log = queue, studies, log

    def evaluated(self, state: JobState, run_dir: Path, event: dict[str, Any]) -> threading.Thread | None:
        """An attempt said an evaluation. Returns at once."""
        if study_of(state.source) is None:
            return None
        thread = threading.Thread(target=self._look, args=(state, run_dir, event), name="pruning", daemon=True)
        thread.start()
        return thread

    def _look(self, state: JobState, run_dir: Path, event: dict[str, Any]) -> None:
        try:
            if reason := self._reason(state, run_dir, int(event["images"])):
                self._queue.prune(state.id, reason)
                self._log.info(reason, action="trial_pruned", job_id=state.id)
        except Exception as error:
            self._log.warning(f"whether to go on could not be told: {error!r}", action="pruning", job_id=state.id)

    def _reason(self, state: JobState, run_dir: Path, images: int) -> str | None:
        study_id = study_of(state.source)
        assert study_id
        standing = self._studies.standing(study_id)
        study = standing.study
        trial = trial_of(state, study, standing.trials)
        search = study.study.search
        if trial is None or search is None or images >= study.trial(1, trial.values).loaded.job.training.images:
            return None
        curve = curve_so_far(run_dir, (study.primary.metric, study.primary.features))
        if not should_prune(study, trial, curve, standing.trials, standing.results):
            return None
        return f"given up at {images:,} images: other trials of {study.name} are better ({search.prune})"
