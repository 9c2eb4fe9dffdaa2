"""Another model: when one is released, and each Sunday night for what a killed run left. Sixteen shards of users, each a mapped task.

Where stores are embedded, the process that has the data directory does the shards one after the other; where they are servers, each
task is a worker of its own, on whatever machine Airflow runs it.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk import DAG, Param, task
from airflow.timetables.assets import AssetOrTimeSchedule
from airflow.timetables.trigger import CronTriggerTimetable
from nearcast_assets import MODEL, RETRIES, done_within
from nearcast_command import run

SHARDS = 16

with DAG(
    dag_id="nearcast_reembed",
    schedule=AssetOrTimeSchedule(timetable=CronTriggerTimetable("0 2 * * 0", timezone="UTC"), assets=[MODEL]),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={**RETRIES, "execution_timeout": timedelta(hours=12)},
    deadline=done_within(24),
    params={
        "model": Param("", type="string", description="A known name or a directory; empty: what the event names, or NEARCAST_MODEL"),
        "share": Param(0.5, type="number", exclusiveMinimum=0, maximum=1, description="The share of the time that the job works"),
        "min_overlap": Param(0.1, type="number", description="The gate: how many of the ten nearest must stay"),
        "prune": Param(False, type="boolean", description="Whether the old revision is dropped at the end"),
    },
    tags=["nearcast"],
    doc_md=__doc__,
) as dag:

    @task
    def model(params=None, triggering_asset_events=None) -> str:
        """Which one: of the run, of the newest event, of the environment."""
        events = [e for events in (triggering_asset_events or {}).values() for e in events]
        named = [e.extra["model"] for e in events if e.extra and e.extra.get("model")]
        chosen = params["model"] or (named[-1] if named else "") or os.environ.get("NEARCAST_MODEL", "")
        if not chosen:
            raise AirflowSkipException("no model is named: nothing to do")
        return chosen

    @task
    def begin(name: str, params=None) -> list[int]:
        """Writes the plan down, and makes the items' vectors with the first shard; answers the shards that are left."""
        run("reembed", "--model", name, "--fill-only", "--shard", "0", "--share", str(params["share"]))
        return list(range(1, SHARDS))

    @task(max_active_tis_per_dagrun=8)
    def fill(shard: int, name: str, params=None) -> int:
        """One shard's vectors; answers how many were made."""
        report = run("reembed", "--model", name, "--fill-only", "--shard", str(shard), "--share", str(params["share"]))
        return report["filled"]["vectors"]

    @task(retries=1)
    def switch(made: list[int], name: str, params=None) -> dict:
        """Profiles and items, the comparison, the gate, and the one switch. A gate that refuses fails the run; nothing is lost."""
        print(sum(made), "vectors were made by the shards")
        return run(
            "reembed", "--model", name, "--min-overlap", str(params["min_overlap"]), "--share", str(params["share"])
        )

    @task
    def prune(report: dict, params=None) -> dict:
        """Drops the revision that nobody reads any more, where that is asked for."""
        if not params["prune"]:
            raise AirflowSkipException("the old revision is kept for `nearcast reembed --rollback`")
        return run("reembed", "--prune")

    name = model()
    prune(switch(fill.partial(name=name).expand(shard=begin(name)), name))
