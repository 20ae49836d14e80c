"""Workers of a grid as a job array of SLURM, by way of submitit."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from sparsejax.config import SlurmConfig
from sparsejax.errors import UserError


def submit(where: Path, config: SlurmConfig) -> list[str]:
    """Submits the workers.

    Each does runs of the grid until none is left, so that one which starts late, or is killed,
    costs nothing but time. At the end of its time, or preempted, a job is requeued.

    Args:
      where: the directory of the grid, which all nodes see.
      config: of the jobs.

    Returns:
      The ids of the jobs.

    Raises:
      UserError: submitit is not installed, or SLURM does not take the jobs.
    """
    if importlib.util.find_spec("submitit") is None:
        raise UserError("executor: slurm needs submitit; pip install 'sparsejax[slurm]'")
    import submitit

    asked = {
        "slurm_partition": config.partition,
        "slurm_account": config.account,
        "slurm_gpus_per_node": config.gpus or None,
        "slurm_setup": list(config.setup) or None,
        "mem_gb": config.memory,
    }
    try:
        executor = submitit.AutoExecutor(folder=where / "slurm", cluster="slurm")
        executor.update_parameters(
            name=f"sparsejax-{where.name}",
            timeout_min=config.minutes,
            nodes=1,
            tasks_per_node=1,
            cpus_per_task=config.cpus,
            slurm_array_parallelism=config.workers,
            **{name: value for name, value in asked.items() if value is not None},
        )
        jobs = executor.map_array(Worker(), [str(where)] * config.workers)
    except (RuntimeError, OSError) as error:  # submitit's own errors are RuntimeErrors
        reason = " ".join(str(error).split())
        raise UserError(f"executor: the jobs cannot be submitted ({reason})") from None
    return [str(job.job_id) for job in jobs]


class Worker:
    """What a job calls, and, when it is to be requeued, asks for the next call."""

    def __call__(self, where: str) -> None:
        from sparsejax import sweep

        sweep.work(Path(where))

    def checkpoint(self, where: str) -> Any:
        """The same again: what is to be kept is on the disk."""
        import submitit

        return submitit.helpers.DelayedSubmission(self, where)
