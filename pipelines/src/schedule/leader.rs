//! The instance that leads: looks what is due, begins it, and keeps what came of it. The others look whether it is gone.

use std::time::Duration;

use nearcast_domain::{StoreResult, Timestamp};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Due, Entry, Handled, LEADER, LastRun, Missed, Outcome, Scheduler, Why, state::key};

/// Pauses are no longer, so that a clock that was set is noticed.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
/// After a store refused.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// What an instance knows while it leads.
struct Leading {
    /// Until when nobody else does.
    until: Instant,
    renewed: Instant,
}

impl Scheduler {
    /// Runs what is due until `stop`; then jobs are asked to stop and waited for, and the lease is given back.
    pub async fn run(&self, stop: &CancellationToken) {
        let (mut leading, mut jobs): (Option<Leading>, JoinSet<()>) = (None, JoinSet::new());
        let mut running: Vec<Option<Id>> = vec![None; self.entries.len()];
        while !stop.is_cancelled() {
            while let Some(done) = jobs.try_join_next_with_id() {
                ended(&mut running, done);
            }
            self.lead(&mut leading).await;
            let pause = match leading {
                Some(_) => self.look_at_all(&mut running, &mut jobs, stop).await,
                None => self.lease / 6,
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause.max(SHORTEST_PAUSE)) => {}
                Some(done) = jobs.join_next_with_id() => ended(&mut running, done),
            }
        }
        while jobs.join_next().await.is_some() {}
        if leading.is_some()
            && let Err(e) = self.leases.release(LEADER, &self.holder).await
        {
            tracing::warn!(error = %e, "the lease of the schedule ends by itself");
        }
    }

    /// Begins whatever is due; answers how long nothing is to be done.
    async fn look_at_all(&self, running: &mut [Option<Id>], jobs: &mut JoinSet<()>, stop: &CancellationToken) -> Duration {
        let mut pause = (self.lease / 3).min(LONGEST_PAUSE);
        for (n, entry) in self.entries.iter().enumerate() {
            let now = (self.clock)();
            match self.look(entry, running[n].is_some(), now).await {
                Ok(None) => {}
                Ok(Some(run)) => {
                    let (this, cancel) = (self.clone(), stop.child_token());
                    running[n] = Some(jobs.spawn(async move { this.one(&this.entries[n], run, &cancel).await }).id());
                }
                Err(e) => {
                    tracing::warn!(job = entry.name, error = %e, "whether this job is due will be asked again");
                    pause = pause.min(AFTER_ERROR);
                }
            }
            let next = entry.cron.next(now).map_or(i64::MAX, |n| n.millis().saturating_sub(now.millis()));
            pause = pause.min(Duration::from_millis(u64::try_from(next).unwrap_or(0)));
        }
        pause
    }

    /// Takes or renews the lease.
    async fn lead(&self, leading: &mut Option<Leading>) {
        let asked = Instant::now();
        if leading.as_ref().is_some_and(|l| asked.duration_since(l.renewed) < self.lease / 3) {
            return;
        }
        match self.leases.acquire(LEADER, &self.holder, self.lease).await {
            Ok(true) => {
                if leading.is_none() {
                    tracing::info!(jobs = self.entries.len(), "this instance runs the schedule");
                }
                *leading = Some(Leading { until: asked + self.lease, renewed: asked });
            }
            Ok(false) => {
                if leading.take().is_some() {
                    tracing::warn!("another instance runs the schedule from now on");
                }
            }
            Err(e) => {
                tracing::warn!(error = %e, "who runs the schedule will be asked again");
                if leading.as_ref().is_some_and(|l| l.until <= asked) {
                    *leading = None;
                }
            }
        }
    }

    /// The run that is to begin now, if one is; then the lease of the job is taken, and the run kept.
    async fn look(&self, entry: &Entry, busy: bool, now: Timestamp) -> StoreResult<Option<LastRun>> {
        let positions = &*self.positions;
        let Some(mut handled) = Handled::load(positions, &entry.name).await? else {
            // What lies before the first sight is nobody's fault.
            Handled { until: now, missed: 0 }.save(positions, &entry.name).await?;
            return Ok(None);
        };
        let before = handled;
        if handled.until > now.plus_millis(i64::try_from(self.late.as_millis()).unwrap_or(i64::MAX)) {
            tracing::warn!(job = entry.name, until = %handled.until, %now, "the clock was set back: times count from now on");
            handled.until = now;
        }
        let due = entry.cron.due(handled.until, now, self.late);
        handled.until = due.run.or(due.missed.map(|m| m.2)).unwrap_or(handled.until);
        // The run before may go on here, or in an instance that led before.
        if busy || !self.leases.acquire(&key(&entry.name), &self.holder, self.lease).await? {
            if let Some(last) = due.run.or(due.missed.map(|m| m.2)) {
                let (runs, first) = due.missed.map_or((0, last), |m| (m.0, m.1));
                let runs = runs + u64::from(due.run.is_some());
                self.miss(entry, &mut handled, Missed { runs, first, last, why: Why::Busy }).await;
            }
            if handled != before {
                handled.save(positions, &entry.name).await?;
            }
            return Ok(None);
        }
        let begun = self.begin(entry, due, before, handled, now).await;
        if !matches!(begun, Ok(Some(_))) {
            self.leases.release(&key(&entry.name), &self.holder).await?;
        }
        begun
    }

    /// The same, with the lease of the job.
    async fn begin(
        &self,
        entry: &Entry,
        due: Due,
        before: Handled,
        mut handled: Handled,
        now: Timestamp,
    ) -> StoreResult<Option<LastRun>> {
        let mut again = None;
        let last = LastRun::load(&*self.positions, &entry.name).await?;
        if let Some(mut cut) = last.filter(|l| l.outcome == Outcome::Running) {
            let missed = Missed { runs: 1, first: cut.due, last: cut.due, why: Why::Cut };
            self.miss(entry, &mut handled, missed).await;
            (cut.ended, cut.outcome, cut.error) = (Some(now), Outcome::Interrupted, Some("its process ended".into()));
            cut.save(&*self.positions, &entry.name).await?;
            again = entry.catch_up.then_some(cut.due);
        }
        if let Some((runs, first, last)) = due.missed {
            self.miss(entry, &mut handled, Missed { runs, first, last, why: Why::Away }).await;
            again = if entry.catch_up { Some(last) } else { again };
        }
        let run = due.run.or(again).map(|due| LastRun { due, began: now, ended: None, outcome: Outcome::Running, error: None });
        // The run first: a crash between the two costs a repetition.
        if let Some(run) = &run {
            run.save(&*self.positions, &entry.name).await?;
        }
        if handled != before {
            handled.save(&*self.positions, &entry.name).await?;
        }
        Ok(run)
    }

    /// One run under its lease, and what came of it.
    async fn one(&self, entry: &Entry, mut run: LastRun, cancel: &CancellationToken) {
        tracing::info!(job = entry.name, due = %run.due, "a scheduled job begins");
        let name = key(&entry.name);
        let renew = async {
            let mut seen = Instant::now();
            loop {
                tokio::time::sleep(self.lease / 3).await;
                match self.leases.acquire(&name, &self.holder, self.lease).await {
                    Ok(true) => seen = Instant::now(),
                    // Another instance may begin it now.
                    Ok(false) => cancel.cancel(),
                    Err(_) if seen.elapsed() > self.lease => cancel.cancel(),
                    Err(_) => {}
                }
            }
        };
        let outcome = tokio::select! {
            outcome = self.work.run(entry, run.due, cancel.clone()) => outcome,
            never = renew => never,
        };
        (run.outcome, run.error) = match outcome {
            Ok(()) => (Outcome::Done, None),
            Err(e) if cancel.is_cancelled() => (Outcome::Interrupted, Some(e)),
            Err(e) => (Outcome::Failed, Some(e)),
        };
        match &run.error {
            None => tracing::info!(job = entry.name, "a scheduled job is done"),
            Some(error) => tracing::warn!(job = entry.name, outcome = ?run.outcome, %error, "a scheduled job ended"),
        }
        run.ended = Some((self.clock)());
        if let Err(e) = run.save(&*self.positions, &entry.name).await {
            tracing::warn!(job = entry.name, error = %e, "the end of this job could not be kept");
        }
        if let Err(e) = self.leases.release(&name, &self.holder).await {
            tracing::warn!(job = entry.name, error = %e, "the lease of this job ends by itself");
        }
    }

    async fn miss(&self, entry: &Entry, handled: &mut Handled, missed: Missed) {
        handled.missed += missed.runs;
        tracing::warn!(
            job = entry.name, runs = missed.runs, first = %missed.first, last = %missed.last, why = ?missed.why,
            "scheduled runs did not take place"
        );
        self.work.missed(entry, &missed).await;
    }
}

fn ended(running: &mut [Option<Id>], done: Result<(Id, ()), JoinError>) {
    let id = match done {
        Ok((id, ())) => id,
        Err(e) => {
            tracing::error!(error = %e, "a scheduled job broke");
            e.id()
        }
    };
    running.iter_mut().filter(|r| **r == Some(id)).for_each(|r| *r = None);
}
