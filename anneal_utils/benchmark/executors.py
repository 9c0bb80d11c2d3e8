"""Where tasks are computed: in this process, over processes, or on a Dask cluster."""

import contextlib
import logging
from concurrent import futures

from anneal_utils import _signals
from anneal_utils.benchmark.tasks import Stopped


class Inline:
    """An executor that computes in this process, at once."""

    def submit(self, function, task):
        """A future that is done: ``function(task)``, or what it raised."""
        future = futures.Future()
        try:
            future.set_result(function(task))
        except Exception as error:
            future.set_exception(error)
        return future


@contextlib.contextmanager
def executor_of(jobs: int, dask: str | None):
    """(executor, tasks in flight, threads of a task, its description)."""
    if dask is not None:
        with _dask(dask) as (executor, width):
            yield executor, width, 1, "Dask"
    elif jobs > 1:
        from joblib.externals.loky import get_reusable_executor

        # One program per process; XLA's own pool stays at its default size in each.
        executor = get_reusable_executor(
            max_workers=jobs, timeout=60, initializer=_signals.leave_to_parent
        )
        try:
            yield executor, 2 * jobs, 1, f"{jobs} processes"
        except BaseException:
            _signals.ending()
            # Waited for: what it cleans up would otherwise meet the end of this process.
            executor.shutdown(wait=True, kill_workers=True)
            raise
    else:
        yield Inline(), 1, None, "this process"


@contextlib.contextmanager
def _dask(address: str):
    try:
        import distributed
    except ImportError:
        raise Stopped(
            "--dask needs the package distributed: pip install 'anneal-utils[cluster]'."
        ) from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = distributed.Client(address, timeout=5, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise Stopped(f"No Dask scheduler answers at {address}: start one, or drop it.") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=30)
        except TimeoutError as error:
            raise Stopped(f"The Dask scheduler at {address} has no worker.") from error
        # Not pure: a task that was computed before is in the cache, not on the cluster.
        executor = client.get_executor(pure=False, retries=2)
        yield executor, 2 * max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
