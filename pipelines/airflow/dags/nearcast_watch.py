"""Lag and drift: looked at each quarter of an hour; over a limit, an event that the mending waits for."""

from __future__ import annotations

import os
import urllib.request
from datetime import datetime, timedelta

from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk import DAG, Metadata, Param, task
from nearcast_assets import DRIFT, RETRIES, done_within
from nearcast_command import ask, run

with DAG(
    dag_id="nearcast_watch",
    schedule=timedelta(minutes=15),
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={**RETRIES, "execution_timeout": timedelta(hours=2)},
    params={
        "most_lag": Param(10_000, type="integer", minimum=0, description="Records that may wait in the log"),
        "most_wrong": Param(0, type="integer", minimum=0, description="Rows that may differ from the ledger"),
        "parts": Param("graph,engagement", type="string", description="Which projections are compared"),
    },
    tags=["nearcast"],
    doc_md=__doc__,
) as watch:

    @task
    def lag(params=None) -> float:
        """Records that wait, of all partitions. More than allowed fails the task: its retries are the time to catch up in."""
        url = os.environ.get("NEARCAST_METRICS", "http://127.0.0.1:8080/metrics")
        with urllib.request.urlopen(url, timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        waiting = sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("nearcast_kafka_lag"))
        if waiting > params["most_lag"]:
            raise RuntimeError(f"{waiting:.0f} records wait, {params['most_lag']} may")
        return waiting

    @task(outlets=[DRIFT])
    def drift(params=None):
        """Compares; an event where more is wrong than may be."""
        code, report = ask("reconcile", "--parts", params["parts"], "--share", "0.2")
        parts = report.get("parts")
        if code > 1 or parts is None:
            raise RuntimeError(f"reconcile ended with {code}")
        wrong = sum(part["wrong"] for part in parts)
        if wrong <= params["most_wrong"]:
            raise AirflowSkipException(f"{wrong} rows differ")
        yield Metadata(DRIFT, extra={"wrong": wrong, "parts": params["parts"]})

    lag()
    drift()

with DAG(
    dag_id="nearcast_mend",
    schedule=[DRIFT],
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={**RETRIES, "execution_timeout": timedelta(hours=6)},
    deadline=done_within(6),
    tags=["nearcast"],
    doc_md="Puts right what `nearcast_watch` found.",
) as mend:

    @task
    def repair() -> dict:
        """Every projection, as the ledger says."""
        return run("reconcile", "--repair", "--share", "0.3")

    repair()
