//! Training as a job over the ports: reads, computes on threads of its own, keeps what came out and switches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use nearcast_domain::{
    ErrorKind, StoreError, StoreResult, Tenant, Timestamp,
    event::hex,
    learned::Learned,
    ports::{ArtefactInfo, Artefacts, GraphRead, Leases, LedgerRead, NewArtefact},
};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::{
    compute::{Figures, Rules, Verdict, compute},
    config::TrainConfig,
    world::World,
};

/// What a training did.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Whose.
    pub tenant: Tenant,
    /// What became of it.
    pub verdict: Verdict,
    /// The version that was kept, where there is one.
    pub version: Option<u64>,
    /// How long it took.
    pub seconds: f64,
    /// What it was judged by, where there was enough to judge.
    pub figures: Option<Figures>,
}

/// Trains.
pub struct Trainer {
    pub(super) graph: Arc<dyn GraphRead>,
    pub(super) ledger: Arc<dyn LedgerRead>,
    pub(super) artefacts: Arc<dyn Artefacts>,
    pub(super) config: TrainConfig,
    revision: Box<dyn Fn() -> String + Send + Sync>,
    rules: Rules,
    pub(super) one_of_many: Option<(Arc<dyn Leases>, String)>,
}

/// How much of the machine a training may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Threads {
    /// All of it: somebody waits.
    All,
    /// One core, behind everything else.
    OneBehind,
}

impl Trainer {
    /// Over these stores. `revision`: of the vectors that stand for texts, asked anew for each training.
    pub fn new(
        graph: Arc<dyn GraphRead>,
        ledger: Arc<dyn LedgerRead>,
        artefacts: Arc<dyn Artefacts>,
        revision: impl Fn() -> String + Send + Sync + 'static,
        config: TrainConfig,
        rules: Rules,
    ) -> Self {
        Self { graph, ledger, artefacts, revision: Box::new(revision), config, rules, one_of_many: None }
    }

    /// In the background, only while this holder has the lease: one process among many trains.
    pub fn under(mut self, leases: Arc<dyn Leases>, holder: String) -> Self {
        self.one_of_many = Some((leases, holder));
        self
    }

    /// Trains a tenant now, with all threads.
    pub async fn train(&self, tenant: &Tenant) -> StoreResult<Report> {
        self.train_on(tenant, Threads::All).await
    }

    pub(super) async fn train_on(&self, tenant: &Tenant, threads: Threads) -> StoreResult<Report> {
        let begun = Instant::now();
        let world = World::read(&*self.graph, &*self.ledger, tenant, &(self.revision)()).await?;
        let report = |verdict, version, figures| Report {
            tenant: tenant.clone(),
            verdict,
            version,
            seconds: begun.elapsed().as_secs_f64(),
            figures,
        };
        if world.count() < self.config.least {
            return Ok(report(Verdict::TooLittle, None, None));
        }
        let current = self.current(tenant).await?;
        let (config, rules) = (self.config.clone(), Rules { stop: Arc::default(), ..self.rules.clone() });
        // Whoever no longer waits ends the work too.
        let _given_up = SetOnDrop(rules.stop.clone());
        let work = move || {
            let pool = pool(threads).map_err(|e| StoreError::new(ErrorKind::Unavailable, "train", e))?;
            let found = pool.install(|| compute(&world, current.as_ref(), &config, &rules));
            Ok(found.map(|(learned, figures)| (learned.to_bytes(), figures)))
        };
        let done = tokio::task::spawn_blocking(work).await.map_err(|e| StoreError::new(ErrorKind::Unavailable, "train", e))?;
        let Some((body, figures)) = done? else { return Ok(report(Verdict::TooLittle, None, None)) };
        let artefact = NewArtefact {
            created: Timestamp::now(),
            digest: hex(&Sha256::digest(&body)),
            figures: serde_json::to_value(&figures).unwrap_or_default(),
            body,
        };
        let version = self.artefacts.put(tenant, &artefact).await?;
        if matches!(figures.verdict, Verdict::Better | Verdict::Refreshed) {
            self.artefacts.switch(tenant, Some(version)).await?;
        }
        self.forget_old(tenant).await?;
        Ok(report(figures.verdict, Some(version), Some(figures)))
    }

    /// What is in service. One that this program cannot read counts as none.
    pub async fn current(&self, tenant: &Tenant) -> StoreResult<Option<Learned>> {
        let Some(version) = self.in_service(tenant).await? else { return Ok(None) };
        let Some(body) = self.artefacts.body(tenant, version).await? else { return Ok(None) };
        let read = Learned::from_bytes(&body).inspect_err(|e| tracing::warn!(%tenant, version, error = %e, "left aside"));
        Ok(read.ok())
    }

    async fn in_service(&self, tenant: &Tenant) -> StoreResult<Option<u64>> {
        Ok(self.artefacts.list(tenant).await?.into_iter().find(|a| a.in_service).map(|a| a.version))
    }

    /// All versions, the newest first.
    pub async fn list(&self, tenant: &Tenant) -> StoreResult<Vec<ArtefactInfo>> {
        self.artefacts.list(tenant).await
    }

    /// Takes the version before the one in service back into service, or none where there is none before. Answers which.
    pub async fn roll_back(&self, tenant: &Tenant) -> StoreResult<Option<u64>> {
        let all = self.artefacts.list(tenant).await?;
        let current = all.iter().find(|a| a.in_service).map(|a| a.version);
        let taken = |a: &&ArtefactInfo| matches!(a.figures["verdict"].as_str(), Some("better" | "refreshed"));
        let before = current.and_then(|c| all.iter().filter(taken).find(|a| a.version < c)).map(|a| a.version);
        self.artefacts.switch(tenant, before).await?;
        Ok(before)
    }

    async fn forget_old(&self, tenant: &Tenant) -> StoreResult<()> {
        for old in self.artefacts.list(tenant).await?.into_iter().filter(|a| !a.in_service).skip(self.config.versions) {
            self.artefacts.remove(tenant, old.version).await?;
        }
        Ok(())
    }
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn pool(threads: Threads) -> Result<rayon::ThreadPool, rayon::ThreadPoolBuildError> {
    let builder = rayon::ThreadPoolBuilder::new().thread_name(|n| format!("train-{n}"));
    match threads {
        Threads::All => builder.build(),
        Threads::OneBehind => builder.num_threads(1).start_handler(|_| step_behind()).build(),
    }
}

/// Lets everything else go first, as far as the system lets a thread say so.
fn step_behind() {
    #[cfg(target_os = "linux")]
    // SAFETY: takes three numbers and touches no memory; 0 names the calling thread, which Linux judges by itself. A refusal changes
    // nothing.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 10);
    }
}
