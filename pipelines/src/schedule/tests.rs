//! Schedulers on a clock that the test turns: tokio's, paused.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use nearcast_domain::{
    StoreResult, Timestamp,
    ports::{Leases, Positions},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Entry, LastRun, Missed, Outcome, Scheduler, Why, Work, standings};

/// Positions and leases of one moment.
struct Memory {
    begun: Instant,
    texts: Mutex<BTreeMap<String, String>>,
    leases: Mutex<BTreeMap<String, (String, Instant)>>,
}

#[async_trait]
impl Positions for Memory {
    async fn get(&self, key: &str) -> StoreResult<Option<String>> {
        Ok(self.texts.lock().unwrap().get(key).cloned())
    }

    async fn set(&self, key: &str, value: &str) -> StoreResult<()> {
        self.texts.lock().unwrap().insert(key.into(), value.into());
        Ok(())
    }

    async fn remove(&self, key: &str) -> StoreResult<()> {
        self.texts.lock().unwrap().remove(key);
        Ok(())
    }
}

#[async_trait]
impl Leases for Memory {
    async fn acquire(&self, name: &str, holder: &str, ttl: Duration) -> StoreResult<bool> {
        let (now, mut leases) = (Instant::now(), self.leases.lock().unwrap());
        if leases.get(name).is_some_and(|(h, until)| h != holder && *until > now) {
            return Ok(false);
        }
        leases.insert(name.into(), (holder.into(), now + ttl));
        Ok(true)
    }

    async fn release(&self, name: &str, holder: &str) -> StoreResult<()> {
        self.leases.lock().unwrap().retain(|n, (h, _)| n != name || h != holder);
        Ok(())
    }
}

/// Jobs that take a while, and what is told of them.
#[derive(Default)]
struct Jobs {
    takes: Duration,
    runs: Mutex<Vec<(String, Timestamp)>>,
    missed: Mutex<Vec<(String, Missed)>>,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

#[async_trait]
impl Work for Jobs {
    async fn run(&self, entry: &Entry, due: Timestamp, cancel: CancellationToken) -> Result<(), String> {
        self.runs.lock().unwrap().push((entry.name.clone(), due));
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        let outcome = tokio::select! {
            () = sleep(self.takes) => if entry.name == "bad" { Err("it is broken".to_owned()) } else { Ok(()) },
            () = cancel.cancelled() => Err("stopped".into()),
        };
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        outcome
    }

    async fn missed(&self, entry: &Entry, missed: &Missed) {
        self.missed.lock().unwrap().push((entry.name.clone(), *missed));
    }
}

fn memory() -> Arc<Memory> {
    Arc::new(Memory { begun: Instant::now(), texts: Mutex::default(), leases: Mutex::default() })
}

fn scheduler(memory: &Arc<Memory>, jobs: &Arc<Jobs>, holder: &str, entries: &[(&str, &str, bool)]) -> Scheduler {
    let start = Timestamp::parse("2026-01-01T00:00:30Z").unwrap();
    let begun = memory.begun;
    let entry = |(name, cron, catch_up): &(&str, &str, bool)| Entry {
        name: (*name).into(),
        cron: cron.parse().unwrap(),
        catch_up: *catch_up,
    };
    Scheduler {
        entries: entries.iter().map(entry).collect(),
        work: jobs.clone(),
        leases: memory.clone(),
        positions: memory.clone(),
        holder: holder.into(),
        lease: Duration::from_secs(30),
        late: Duration::from_secs(50),
        clock: Arc::new(move || start.plus_millis(begun.elapsed().as_millis() as i64)),
    }
}

fn start(s: &Scheduler) -> (CancellationToken, tokio::task::JoinHandle<()>) {
    let (s, stop) = (s.clone(), CancellationToken::new());
    (stop.clone(), tokio::spawn(async move { s.run(&stop).await }))
}

async fn minutes(n: u64) {
    sleep(Duration::from_secs(60 * n)).await;
}

#[tokio::test(start_paused = true)]
async fn each_time_once_and_told() {
    let (memory, jobs) = (memory(), Arc::new(Jobs { takes: Duration::from_secs(5), ..Jobs::default() }));
    let s = scheduler(&memory, &jobs, "a", &[("good", "* * * * *", false), ("bad", "*/5 * * * *", false)]);
    let (stop, running) = start(&s);
    minutes(10).await;
    stop.cancel();
    running.await.unwrap();
    let runs = jobs.runs.lock().unwrap().clone();
    let of = |name: &str| runs.iter().filter(|r| r.0 == name).map(|r| r.1.to_string()).collect::<Vec<_>>();
    assert_eq!(of("good").len(), 10, "{runs:?}");
    assert_eq!(of("bad"), ["2026-01-01T00:05:00Z", "2026-01-01T00:10:00Z"]);
    assert!(jobs.missed.lock().unwrap().is_empty());
    let now = (s.clock)();
    let all = standings(&s.entries, &*memory, now).await.unwrap();
    assert_eq!(all[1].next.unwrap().to_string(), "2026-01-01T00:15:00Z");
    let last = all[1].last.clone().unwrap();
    assert_eq!((last.outcome, last.error.as_deref()), (Outcome::Failed, Some("it is broken")));
    assert_eq!(all[0].last.as_ref().unwrap().outcome, Outcome::Done);
    // Given back: the next leads at once.
    assert!(memory.leases.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn no_job_beside_itself() {
    let (memory, jobs) = (memory(), Arc::new(Jobs { takes: Duration::from_secs(150), ..Jobs::default() }));
    let s = scheduler(&memory, &jobs, "a", &[("long", "* * * * *", true)]);
    let (stop, running) = start(&s);
    minutes(11).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!(jobs.most_at_once.load(Ordering::SeqCst), 1);
    let missed = jobs.missed.lock().unwrap().clone();
    assert!(missed.iter().all(|(_, m)| m.why == Why::Busy), "{missed:?}");
    let (ran, skipped) = (jobs.runs.lock().unwrap().len() as u64, missed.iter().map(|m| m.1.runs).sum::<u64>());
    assert_eq!((ran, ran + skipped), (4, 11), "each of eleven times ran or was told");
    let last = LastRun::load(&*memory, "long").await.unwrap().unwrap();
    assert_eq!(last.outcome, Outcome::Interrupted, "stopped with the schedule");
}

#[tokio::test(start_paused = true)]
async fn who_is_killed_is_followed_within_the_lease() {
    let (memory, jobs) = (memory(), Arc::new(Jobs { takes: Duration::from_secs(300), ..Jobs::default() }));
    let entries = [("once", "*/10 * * * *", true), ("other", "*/10 * * * *", false)];
    let (a, b) = (scheduler(&memory, &jobs, "a", &entries), scheduler(&memory, &jobs, "b", &entries));
    let (_, first) = start(&a);
    sleep(Duration::from_millis(100)).await;
    let (stop, second) = start(&b);
    minutes(11).await;
    assert_eq!(jobs.runs.lock().unwrap().len(), 2, "one leader");
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    sleep(a.lease + a.lease / 6 + Duration::from_secs(1)).await;
    let led = memory.leases.lock().unwrap()[super::LEADER].0.clone();
    assert_eq!(led, "b");
    minutes(1).await;
    let missed = jobs.missed.lock().unwrap().clone();
    assert_eq!(missed.len(), 2, "{missed:?}");
    assert!(missed.iter().all(|(_, m)| m.why == Why::Cut && m.runs == 1), "{missed:?}");
    let runs = jobs.runs.lock().unwrap().clone();
    assert_eq!(runs.len(), 3, "what is to catch up began again, the other waits for its next time: {runs:?}");
    assert_eq!(runs[2], runs.iter().find(|r| r.0 == "once").unwrap().clone());
    stop.cancel();
    second.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_hour_away_is_told_and_caught_up_with_once() {
    let (memory, jobs) = (memory(), Arc::new(Jobs { takes: Duration::from_secs(1), ..Jobs::default() }));
    let s = scheduler(&memory, &jobs, "a", &[("kept", "*/10 * * * *", true), ("let go", "*/10 * * * *", false)]);
    let (stop, running) = start(&s);
    minutes(1).await;
    stop.cancel();
    running.await.unwrap();
    minutes(63).await;
    let (stop, running) = start(&s);
    minutes(1).await;
    stop.cancel();
    running.await.unwrap();
    let missed = jobs.missed.lock().unwrap().clone();
    assert_eq!(missed.len(), 2);
    for (_, m) in &missed {
        assert_eq!((m.runs, m.why), (6, Why::Away), "{m:?}");
    }
    let runs = jobs.runs.lock().unwrap().clone();
    assert_eq!(runs, [("kept".to_owned(), missed[0].1.last)]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_was_set_back_stops_nothing() {
    let (memory, jobs) = (memory(), Arc::new(Jobs::default()));
    let mut s = scheduler(&memory, &jobs, "a", &[("each", "* * * * *", false)]);
    let right = s.clock.clone();
    let ahead = right.clone();
    s.clock = Arc::new(move || ahead().plus_millis(86_400_000));
    let (stop, running) = start(&s);
    minutes(3).await;
    stop.cancel();
    running.await.unwrap();
    let before = jobs.runs.lock().unwrap().len();
    s.clock = right;
    let (stop, running) = start(&s);
    minutes(3).await;
    stop.cancel();
    running.await.unwrap();
    assert_eq!((before, jobs.runs.lock().unwrap().len()), (3, 6));
    assert!(jobs.missed.lock().unwrap().is_empty());
}
