"""What happens that DAGs wait for, and what all of them share. No DAG itself.

A model's release pipeline says that there is a new one with an event of `MODEL` whose extra names it:
`POST /api/v2/assets/events {"asset_id": …, "extra": {"model": "all-MiniLM-L6-v2"}}`.
"""

from __future__ import annotations

import os
from datetime import timedelta

from airflow.sdk import Asset
from airflow.sdk.definitions.deadline import AsyncCallback, DeadlineAlert, DeadlineReference

MODEL = Asset(name="nearcast_model", uri="x-nearcast://model", group="nearcast")
DRIFT = Asset(name="nearcast_drift", uri="x-nearcast://drift", group="nearcast")
EXPORT = Asset(name="nearcast_export", uri="x-nearcast://export", group="nearcast")

RETRIES = {
    "owner": "nearcast",
    "retries": 3,
    "retry_delay": timedelta(minutes=1),
    "retry_exponential_backoff": True,
    "max_retry_delay": timedelta(minutes=30),
}


def late(context=None, **kwargs):
    """Called where a run is not done by its deadline: a line in the log of the triggerer; put a notifier of yours in its place."""
    print("nearcast: a run is late:", kwargs or context)


async def late_async(**kwargs):
    """The same, as deadlines call it."""
    late(**kwargs)


def done_within(hours: int) -> DeadlineAlert | None:
    """A run that is not done so many hours after it was queued is late. `airflow dags test` of 3.3.2 breaks at the end of a run that has
    a deadline (apache/airflow#73428): NEARCAST_NO_DEADLINES leaves them out there."""
    if os.environ.get("NEARCAST_NO_DEADLINES"):
        return None
    reference, callback = DeadlineReference.DAGRUN_QUEUED_AT, AsyncCallback(late_async)
    return DeadlineAlert(reference=reference, interval=timedelta(hours=hours), callback=callback)
