"""How the DAGs call `nearcast`: by its exit codes and its --json reports. Imported by the DAGs; no DAG itself.

Exit code 0 is done; 1 may be tried again, as every job goes on where it stopped; 2 is wrong usage, which no retry mends.
What is set in the environment of Airflow's workers:

NEARCAST            the command before the job, for instance `nearcast --config /etc/nearcast.toml` (default: nearcast)
NEARCAST_METRICS    where /metrics of a worker is, for the lag (default: http://127.0.0.1:8080/metrics)
NEARCAST_MODEL      the model to re-embed to where no run names one
NEARCAST_EXPORTS    the directory that exports go to
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException

WRONG_USAGE = 2


def command(*words: str) -> list[str]:
    """The command line of a job."""
    return [*shlex.split(os.environ.get("NEARCAST", "nearcast")), *words]


def ask(*words: str) -> tuple[int, dict[str, Any]]:
    """Runs a job to its end: its exit code and its report. Progress goes to the task's log as it comes."""
    argv = command(*words, "--json")
    print("$", shlex.join(argv), flush=True)
    # SIGTERM, which Airflow sends where a task is cleared or runs out of time, ends the job in order: it goes on with the next try.
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as job:
        try:
            out, _ = job.communicate()
        except BaseException:
            job.terminate()
            raise
    report: dict[str, Any] = {}
    for line in out.splitlines():
        print(line)
        try:
            report = json.loads(line)
        except ValueError:
            continue
    return job.returncode, report


def run(*words: str) -> dict[str, Any]:
    """Runs a job that must end well; answers its report."""
    code, report = ask(*words)
    if code == WRONG_USAGE:
        raise AirflowFailException(f"nearcast {shlex.join(words)}: wrong usage, which no retry mends")
    if code != 0:
        raise AirflowException(f"nearcast {shlex.join(words)} ended with {code}; the next try goes on from there")
    for anomaly in report.get("anomalies", []):
        print("ANOMALY:", anomaly)
    return report
