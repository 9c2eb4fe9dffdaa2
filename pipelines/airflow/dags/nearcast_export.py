"""An export each night, as an event for whoever uses it; and training, which waits for a new one."""

from __future__ import annotations

import os
from datetime import datetime, timedelta

from airflow.sdk import DAG, Metadata, task
from nearcast_assets import EXPORT, RETRIES, done_within
from nearcast_command import run

with DAG(
    dag_id="nearcast_export",
    schedule="30 1 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={**RETRIES, "execution_timeout": timedelta(hours=6)},
    deadline=done_within(6),
    tags=["nearcast"],
    doc_md=__doc__,
) as export:

    @task(outlets=[EXPORT])
    def write(ds=None):
        """A directory a day; the event names it."""
        where = os.path.join(os.environ.get("NEARCAST_EXPORTS", "/var/lib/nearcast/exports"), ds)
        # A second try finds the first one's directory where it failed after all was written.
        report = run("export", "--out", where, "--replace")
        yield Metadata(EXPORT, extra={"directory": where, "anomalies": report.get("anomalies", [])})

    write()

with DAG(
    dag_id="nearcast_after_export",
    schedule=[EXPORT],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={**RETRIES, "execution_timeout": timedelta(hours=2)},
    tags=["nearcast"],
    doc_md="Waits for a new export: put your warehouse's load here. As it is, it reads the manifest.",
) as after:

    @task
    def manifest(triggering_asset_events=None) -> list[str]:
        """Which exports are new, their manifests read."""
        events = [e for events in (triggering_asset_events or {}).values() for e in events]
        directories = [e.extra["directory"] for e in events if e.extra and e.extra.get("directory")]
        for directory in directories:
            with open(os.path.join(directory, "manifest.json"), encoding="utf-8") as file:
                print(directory, len(file.read()), "bytes of manifest")
        return directories

    manifest()
