"""What the Prefect server knows of runs: sets right what a dead process left, and waits until all of ours is recorded.

Nothing here imports prefect at module level, as in `flows.server`.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from uuid import UUID

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.filters import FlowRunFilter

LOOK = 0.2  # seconds between two looks
PAGE = 200  # runs per request, the server's limit


def crash_stale_runs(tag: str, *, keep: UUID | None = None) -> int:
    """Set flow and task runs of `tag` that look alive to Crashed; returns how many.

    For use under the dataset's lease: whoever ran them is dead. keep: the flow run that asks.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import State
    from prefect.states import Crashed

    crashed: State[None] = Crashed(message="its process died; a later run took over")
    with get_client(sync_client=True) as client:
        flow_runs = [run_id for run_id in _live_flow_runs(client, tag) if run_id != keep]
        task_runs = list(_live_task_runs(client, tag, keep))
        for task_run in task_runs:
            client.set_task_run_state(task_run, crashed, force=True)
        for flow_run in flow_runs:
            client.set_flow_run_state(flow_run, crashed, force=True)
    return len(flow_runs) + len(task_runs)


def wait_for_task_runs(flow_run_id: UUID, expected: int, timeout: float = 10.0) -> int:
    """Return how many ended task runs of the flow run the server knows, once they are `expected` or time is over.

    The server records task runs seconds after the flow; what it has not recorded when it stops is lost.
    """
    from prefect.client.orchestration import get_client

    body = {
        "flow_runs": {"id": {"any_": [str(flow_run_id)]}},
        "task_runs": {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}},
    }
    until = time.monotonic() + timeout
    with get_client(sync_client=True) as client:
        while True:
            known = int(client.request("POST", "/task_runs/count", json=body).json())
            if known >= expected or time.monotonic() > until:
                return known
            time.sleep(LOOK)


def _live_flow_runs(client: "SyncPrefectClient", tag: str) -> list[UUID]:
    found: list[UUID] = []
    while page := client.read_flow_runs(flow_run_filter=_tagged(tag, live=True), limit=PAGE, offset=len(found)):
        found += [run.id for run in page]
    return found


def _live_task_runs(client: "SyncPrefectClient", tag: str, keep: UUID | None) -> Iterator[UUID]:
    from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterState, TaskRunFilterStateType
    from prefect.client.schemas.objects import StateType

    alive = TaskRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING])
    wanted, seen = TaskRunFilter(state=TaskRunFilterState(type=alive)), 0
    while page := client.read_task_runs(
        flow_run_filter=_tagged(tag, live=False), task_run_filter=wanted, limit=PAGE, offset=seen
    ):
        seen += len(page)
        yield from (run.id for run in page if keep is None or run.flow_run_id != keep)


def _tagged(tag: str, *, live: bool) -> "FlowRunFilter":
    from prefect.client.schemas.filters import (
        FlowRunFilter,
        FlowRunFilterState,
        FlowRunFilterStateType,
        FlowRunFilterTags,
    )
    from prefect.client.schemas.objects import StateType

    tags = FlowRunFilterTags(all_=[tag])
    if not live:
        return FlowRunFilter(tags=tags)
    alive = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
    return FlowRunFilter(tags=tags, state=FlowRunFilterState(type=alive))
