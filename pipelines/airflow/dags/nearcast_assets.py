"""What happens that DAGs wait for, and what all of them share. No DAG itself.

A model's release pipeline says that there is a new one with an event of `MODEL` whose extra names it:
`POST /api/v2/assets/events {"asset_id": …, "extra": {"model": "all-MiniLM-L6-v2"}}`.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import Asset

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
