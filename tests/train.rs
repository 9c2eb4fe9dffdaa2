//! Training over real stores: better is taken, worse is refused, one can go back, and the same facts give the same bytes.

mod support;

#[allow(clippy::unwrap_used, reason = "a test says where it broke")]
mod training {
    use std::{path::Path, sync::Arc};

    use nearcast_domain::{
        ItemId, Tenant, Timestamp, UserId,
        learned::{Blend, Learned},
        ports::{Artefacts, Edge, GraphWrite, NewArtefact},
    };
    use nearcast_pipelines::{
        TrainConfig, Trainer,
        train::{Rules, Verdict},
    };
    use nearcast_stores::{artefacts::SqliteArtefacts, graph::SqliteGraph, ledger::SqliteLedger};
    use serde_json::{Value, json};

    use super::support::{free_port, get_json, nearcast, post, run_ok, serve};

    /// 120 people with twenty choices each, one after another: of their own circle, or of everything.
    fn edges(own_circle: bool) -> Vec<Edge> {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut out = Vec::new();
        for u in 0..120 {
            let mut items: Vec<usize> = if own_circle { (0..30).map(|n| n * 8 + u % 8).collect() } else { (0..240).collect() };
            rng.shuffle(&mut items);
            for (n, item) in items.into_iter().take(20).enumerate() {
                let time = Timestamp::from_millis((n * 120 + u) as i64 * 3_600_000);
                let (user, item) = (UserId::trusted(format!("u{u:03}")), ItemId::trusted(format!("i{item:03}")));
                out.push(Edge { user, item, weight: 1.0, positive: true, first: time, last: time });
            }
        }
        out
    }

    async fn trainer(dir: &Path, edges: &[Edge], people: usize) -> (Trainer, Arc<SqliteArtefacts>) {
        let graph = Arc::new(SqliteGraph::open(&dir.join("graph.db")).await.unwrap());
        let ledger = Arc::new(SqliteLedger::open(&dir.join("ledger.db")).await.unwrap());
        let artefacts = Arc::new(SqliteArtefacts::open(&dir.join("artefacts.db")).await.unwrap());
        graph.set_edges(&Tenant::default(), edges).await.unwrap();
        let config = TrainConfig { people, ..TrainConfig::default() };
        (Trainer::new(graph, ledger, artefacts.clone(), || "none".into(), config, Rules::default()), artefacts)
    }

    /// Something in service that only knows what is popular.
    async fn popular_in_service(artefacts: &SqliteArtefacts) {
        let none = Blend { graph: 0.0, learned: 0.0, similar_users: 0.0, similar_text: 0.0, ..Blend::default() };
        let body = Learned { blend: none, until: i64::MAX, ..Learned::default() }.to_bytes();
        let figures = json!({ "verdict": "better" });
        let a = NewArtefact { created: Timestamp::from_millis(1), digest: String::new(), figures, body };
        artefacts.put(&Tenant::default(), &a).await.unwrap();
        artefacts.switch(&Tenant::default(), Some(1)).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn better_is_taken_and_one_can_go_back() {
        let dir = tempfile::tempdir().unwrap();
        let (trainer, artefacts) = trainer(dir.path(), &edges(true), 1_000).await;
        popular_in_service(&artefacts).await;
        let tenant = Tenant::default();
        let report = trainer.train(&tenant).await.unwrap();
        assert_eq!((report.verdict, report.version), (Verdict::Better, Some(2)), "{report:?}");
        let f = report.figures.unwrap();
        assert!(f.after > f.before && f.difference[1] > 0.0 && f.items == 240, "{f:?}");
        let current = trainer.current(&tenant).await.unwrap().unwrap();
        assert!(current.blend.graph + current.blend.learned > 0.0);
        // Weights lead into the circle of the item.
        let of = |n: u32| current.items[n as usize].as_str()[1..].parse::<usize>().unwrap() % 8;
        let lists = || current.lists.iter().zip(0..).filter(|(l, _)| !l.is_empty());
        assert!(lists().all(|(l, i)| of(l[0].0) == of(i)));
        // The same again: nothing is better than what is in service, and it stays.
        let again = trainer.train(&tenant).await.unwrap();
        assert_eq!((again.verdict, again.version), (Verdict::Kept, Some(3)), "{again:?}");
        let in_service = async || trainer.list(&tenant).await.unwrap().iter().find(|a| a.in_service).map(|a| a.version);
        assert_eq!(in_service().await, Some(2));
        assert_eq!(trainer.roll_back(&tenant).await.unwrap(), Some(1));
        assert_eq!(in_service().await, Some(1));
        assert_eq!(trainer.roll_back(&tenant).await.unwrap(), None);
        assert_eq!(in_service().await, None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_not_better_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (trainer, _) = trainer(dir.path(), &edges(false), 1_000).await;
        let report = trainer.train(&Tenant::default()).await.unwrap();
        assert_eq!(report.verdict, Verdict::Kept, "there is nothing to learn: {report:?}");
        assert!(trainer.current(&Tenant::default()).await.unwrap().is_none());
        let few = tempfile::tempdir().unwrap();
        let (few, _) = super::training::trainer(few.path(), &edges(true)[..400], 1_000).await;
        assert_eq!(few.train(&Tenant::default()).await.unwrap().verdict, Verdict::TooLittle);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_same_facts_give_the_same_bytes() {
        let mut digests = Vec::new();
        let mut edges = edges(true);
        for _ in 0..2 {
            let dir = tempfile::tempdir().unwrap();
            let (trainer, artefacts) = trainer(dir.path(), &edges, 1_000).await;
            popular_in_service(&artefacts).await;
            trainer.train(&Tenant::default()).await.unwrap();
            digests.push(trainer.list(&Tenant::default()).await.unwrap().remove(0).digest);
            edges.reverse();
        }
        assert_eq!(digests[0], digests[1]);
    }

    /// From one process: events in, no manual step, and what was learned is in service. Then a new item is recommended to those near it.
    #[test]
    fn it_learns_by_itself_and_what_is_new_counts_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let subjects =
            ["coffee grinder", "trail shoe", "star map", "rye bread", "board game", "rain coat", "clay pot", "road bike"];
        let mut events: Vec<Value> = (0..240)
            .map(|i| json!({"type":"item","item_id":format!("i{i:03}"),"text":format!("{} number {i}", subjects[i % 8])}))
            .collect();
        let mut known = edges(true);
        known.sort_by_key(|e| e.first);
        events.extend(
            known
                .iter()
                .map(|e| json!({"type":"engagement","user_id":e.user,"item_id":e.item,"kind":"purchase","timestamp":e.first})),
        );
        let mut child = nearcast(dir.path(), &["run", "--listen", &format!("127.0.0.1:{port}")]);
        child.env("NEARCAST__TRAIN__QUIET_S", "1");
        let _running = super::support::Running(child.spawn().unwrap());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(120);
        let wait = |what: &str, ready: &dyn Fn() -> bool| {
            while !ready() {
                assert!(std::time::Instant::now() < until, "{what}");
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        };
        wait("it does not answer", &|| super::support::get(port, "/health/ready").is_ok());
        assert_eq!(post(port, "/events", &Value::Array(events)).unwrap().0, 202);
        wait("nothing was learned", &|| {
            super::support::get(port, "/metrics").is_ok_and(|(_, m)| m.contains("nearcast_train_seconds_count"))
        });
        // Cold: known by its text alone.
        let item = json!({"type":"item","item_id":"new","text":"coffee grinder number one"});
        let token = post(port, "/events", &item).unwrap().1["token"].as_str().unwrap().to_owned();
        let path = format!("/recommendations/u000?k=50&after={token}&budget_ms=5000&cache=false");
        let answer = get_json(port, &path);
        assert!(answer.to_string().contains("\"new\""), "{answer}");
        drop(_running);
        let listed = run_ok(dir.path(), &["train", "--list", "--json"]);
        let first: Value = serde_json::from_str(listed.lines().next().unwrap()).unwrap();
        assert!(first["figures"]["people"].as_u64().unwrap() > 50, "{first}");
        // The same history taken up again is not learned again.
        let _again = serve(dir.path(), port);
        assert!(get_json(port, "/users/u000/why-not/new?k=50")["fate"].is_string());
    }

    #[test]
    fn on_real_data_it_is_as_good_as_it_was() {
        let Ok(data) = std::env::var("NEARCAST_TEST_DATA") else {
            assert!(std::env::var("CI").as_deref() != Ok("true"), "NEARCAST_TEST_DATA is not set");
            eprintln!(
                "skipped: NEARCAST_TEST_DATA names no directory with movielens.events.jsonl.gz (MovieLens latest-small 2016)"
            );
            return;
        };
        let dir = tempfile::tempdir().unwrap();
        let (events, holdout) = (format!("{data}/movielens.events.jsonl.gz"), format!("{data}/movielens.holdout.jsonl"));
        let out = run_ok(dir.path(), &["evaluate", "--events", &events, "--holdout", &holdout, "--train", "--json"]);
        let f: Value = serde_json::from_str(out.trim()).unwrap();
        let ndcg = |v: &Value| v["ndcg"].as_f64().unwrap();
        assert!(ndcg(&f) >= 0.160 && ndcg(&f) >= 0.98 * ndcg(&f["before"]), "{f}");
        assert!(f["train"]["figures"]["people"].as_u64().unwrap() > 100);
    }
}
