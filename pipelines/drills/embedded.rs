//! Drills on embedded stores: one import, copied for each, and a line on standard error for each thing that was done.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use nearcast_domain::{
    Tenant,
    digest::bucket,
    ports::{Collection, VectorJobs as _, VectorRead as _, VectorRow, VectorWrite as _},
};
use nearcast_stores::vectors::HnswIndex;
use serde_json::{Value, json};
use sqlx::{Connection as _, SqliteConnection};

use super::{
    copy, parts, sum,
    support::{self, Running, digests, free_port, nearcast, post, run, run_ok, town, write_lines},
};

const PARTS: [&str; 5] = ["items", "users", "graph", "engagement", "neighbours"];

/// One import, and its digests.
struct Whole {
    _dir: tempfile::TempDir,
    data: PathBuf,
    digests: Value,
}

fn whole() -> &'static Whole {
    static WHOLE: OnceLock<Whole> = OnceLock::new();
    WHOLE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let (data, file) = (dir.path().join("data"), dir.path().join("town.jsonl"));
        write_lines(&file, &town(61, 250, 6000));
        run_ok(&data, &["import", file.to_str().unwrap()]);
        let digests = digests(&data);
        Whole { _dir: dir, data, digests }
    })
}

/// A copy to break.
fn broken() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    copy(&whole().data, &data);
    (dir, data)
}

fn came_back(data: &Path, what: &str) {
    assert_eq!(digests(data), whole().digests, "{what}");
    eprintln!("came back: {what}");
}

/// Runs a statement on a file of the data directory; answers how many rows it changed.
fn alter(file: &Path, sql: &'static str) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
        let changed = sqlx::query(sql).execute(&mut connection).await.unwrap().rows_affected();
        connection.close().await.unwrap();
        changed
    })
}

/// Alters every hundredth vector, and takes another hundredth out, through the store itself.
fn alter_vectors(data: &Path) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let index = HnswIndex::open(&data.join("vectors")).await.unwrap();
        let (revision, tenant) = (index.revision().await.unwrap().unwrap(), Tenant::default());
        let mut changed = 0;
        for collection in [Collection::Users, Collection::Items] {
            let rows = index.rows(&tenant, collection, &revision, 1, &[0]).await.unwrap();
            let one_in = (rows.len() / 50).clamp(1, 50);
            let (mut wrong, mut gone): (Vec<VectorRow>, Vec<String>) = (Vec::new(), Vec::new());
            for mut row in rows {
                match bucket(&row.id, one_in * 2) {
                    0 => {
                        row.vector = row.vector.iter().map(|x| -x).collect::<Vec<f32>>().into();
                        wrong.push(row);
                    }
                    1 if gone.len() < 5 => gone.push(row.id),
                    _ => {}
                }
            }
            changed += wrong.len() + gone.len();
            index.upsert(&tenant, collection, &revision, &wrong).await.unwrap();
            index.delete(&tenant, collection, &gone).await.unwrap();
        }
        index.checkpoint().await.unwrap();
        index.close().await;
        changed
    })
}

#[test]
fn a_projection_dropped() {
    for (lost, part) in [("graph.db", "graph"), ("engagement.db", "engagement"), ("vectors", "users")] {
        for mend in ["rebuild", "reconcile"] {
            let (_dir, data) = broken();
            let path = data.join(lost);
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.unwrap();
            for beside in ["-wal", "-shm"] {
                drop(fs::remove_file(data.join(format!("{lost}{beside}"))));
            }
            match (mend, part) {
                ("reconcile", _) => run_ok(&data, &["reconcile", "--repair"]),
                (_, "users") => run_ok(&data, &["rebuild", "users", "items"]),
                (_, "graph") => run_ok(&data, &["rebuild", "graph", "neighbours"]),
                _ => run_ok(&data, &["rebuild", part]),
            };
            came_back(&data, &format!("{lost} dropped, {mend}"));
        }
    }
}

#[test]
fn an_index_file_torn() {
    let files = |data: &Path| {
        let mut all: Vec<PathBuf> = fs::read_dir(data.join("vectors"))
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.is_file() && fs::metadata(p).unwrap().len() > 0)
            .collect();
        all.sort();
        all
    };
    let names: Vec<_> = files(&whole().data).iter().map(|p| p.file_name().unwrap().to_owned()).collect();
    assert!(!names.is_empty());
    for name in names {
        for how in ["cut in half", "emptied", "bytes flipped", "gone"] {
            let (_dir, data) = broken();
            let path = data.join("vectors").join(&name);
            let mut bytes = fs::read(&path).unwrap();
            match how {
                "cut in half" => bytes.truncate(bytes.len() / 2),
                "emptied" => bytes.clear(),
                _ => {
                    let (n, mut rng) = (bytes.len(), fastrand::Rng::with_seed(62));
                    (0..16).for_each(|_| bytes[rng.usize(..n)] ^= 0x5a);
                }
            }
            if how == "gone" { fs::remove_file(&path) } else { fs::write(&path, bytes) }.unwrap();
            // Told or mended at the start; whatever is left is mended here.
            run_ok(&data, &["reconcile", "--repair"]);
            came_back(&data, &format!("{} {how}", name.to_string_lossy()));
        }
    }
}

#[test]
fn one_row_in_a_hundred_altered() {
    let (_dir, data) = broken();
    let mut altered = 0;
    for (file, sql) in [
        ("graph.db", "UPDATE edges SET weight = weight + 1 WHERE (user * 31 + item) % 100 = 7"),
        ("graph.db", "DELETE FROM edges WHERE (user * 31 + item) % 100 = 9"),
        ("graph.db", "UPDATE neighbours SET list = X'' WHERE item % 30 = 3"),
        ("engagement.db", "UPDATE totals SET weight = weight + 5 WHERE (item * 7 + hour) % 100 = 3"),
        ("engagement.db", "DELETE FROM counted WHERE user % 100 = 3"),
        ("engagement.db", "UPDATE labels SET category = 'something else' WHERE item % 30 = 3"),
    ] {
        let changed = alter(&data.join(file), sql);
        assert!(changed > 0, "{sql}");
        altered += changed;
    }
    let vectors = alter_vectors(&data);
    assert!(vectors > 3, "{vectors}");
    assert_ne!(digests(&data), whole().digests);
    let told = run(&data, &["reconcile", "--json"]);
    assert_eq!(told.status.code(), Some(1), "found, and nothing written");
    let said = parts(&run_ok(&data, &["reconcile", "--repair", "--json"]));
    assert!(sum(&said, "wrong") > 0 && sum(&said, "wrong") == sum(&said, "repaired"), "{said:?}");
    came_back(&data, &format!("{altered} rows and {vectors} vectors altered, reconcile --repair"));
    assert_eq!(run(&data, &["reconcile"]).status.code(), Some(0));
}

/// Events dated ahead and behind, told while the program serves: as if they had been imported, and nothing to mend.
#[test]
fn the_clock_turned() {
    let (dir, data) = broken();
    let mut events = town(63, 250, 400);
    // One that is told twice would be dated twice.
    events.dedup();
    let skewed: Vec<Value> = events
        .into_iter()
        .filter(|e| e["type"] != "item" && e["type"] != "erasure")
        .enumerate()
        .map(|(n, mut e)| {
            for id in ["message_id", "event_id"] {
                if let Some(text) = e[id].as_str() {
                    e[id] = json!(format!("turned-{text}"));
                }
            }
            // Years behind, as a machine whose clock begins anew; and minutes ahead.
            e["timestamp"] = match n % 3 {
                0 => json!("1970-01-01T00:00:01Z"),
                1 => json!(format!("2019-12-31T23:59:{:02}Z", n % 60)),
                _ => json!(ahead(60)),
            };
            e
        })
        .collect();
    let port = free_port();
    let server = support::serve(&data, port);
    for chunk in skewed.chunks(100) {
        let (status, body) = post(port, "/events", &Value::Array(chunk.to_vec())).unwrap();
        assert_eq!(status, 202, "{body}");
    }
    // Days ahead: no event, and no harm.
    let far = json!([{"type":"message","user_id":"u1","text":"from the year 3000","timestamp":"3000-01-01T00:00:00Z"}]);
    let (_, body) = post(port, "/events", &far).unwrap();
    assert_eq!(body["rejected"].as_array().map(Vec::len), Some(1), "{body}");
    drop(server);
    run_ok(&data, &["ingest", "--drain"]);
    let after = digests(&data);
    assert_ne!(after, whole().digests);
    let said = parts(&run_ok(&data, &["reconcile", "--json"]));
    assert_eq!(sum(&said, "wrong"), 0, "{said:?}");
    run_ok(&data, &[&["rebuild"], &PARTS[..]].concat());
    assert_eq!(digests(&data), after, "made anew later, it is the same");
    // Told in another order, after a projection was lost.
    let (again, file) = (dir.path().join("again"), dir.path().join("skewed.jsonl"));
    copy(&whole().data, &again);
    let reversed: Vec<Value> = skewed.into_iter().rev().collect();
    write_lines(&file, &reversed);
    run_ok(&again, &["import", file.to_str().unwrap()]);
    fs::remove_file(again.join("graph.db")).unwrap();
    run_ok(&again, &["reconcile", "--repair"]);
    assert_eq!(digests(&again), after, "in another order");
    eprintln!("came back: the clock turned");
}

/// So many seconds from now.
fn ahead(seconds: i64) -> String {
    nearcast_domain::Timestamp::now().plus_millis(seconds * 1000).to_string()
}

/// `rebuild` and `reconcile --repair` killed at eight moments of their course each, on data that is broken in every store.
#[test]
fn a_job_killed_at_each_phase() {
    let mend_all = [&["rebuild"], &PARTS[..]].concat();
    for args in [&mend_all[..], &["reconcile", "--repair"]] {
        let ruin = || {
            let (dir, data) = broken();
            fs::remove_file(data.join("graph.db")).unwrap();
            alter(&data.join("engagement.db"), "DELETE FROM counted WHERE user % 3 = 1");
            alter_vectors(&data);
            (dir, data)
        };
        let slowly = [args, &["--share", "0.3"]].concat();
        let start =
            |data: &Path| -> Child { nearcast(data, &slowly).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap() };
        let (_dir, data) = ruin();
        let begun = Instant::now();
        assert!(start(&data).wait().unwrap().success());
        let took = begun.elapsed();
        came_back(&data, &format!("{} whole, {:.1} s", args[0], took.as_secs_f64()));
        let (_dir, data) = ruin();
        let mut kills = 0;
        for n in 1..=8 {
            let mut job = Running(start(&data));
            std::thread::sleep(took.mul_f64(f64::from(n) / 9.0).max(Duration::from_millis(30)));
            kills += u32::from(job.0.try_wait().unwrap().is_none());
            drop(job);
        }
        assert!(kills > 0, "every one had ended before it was killed");
        run_ok(&data, args);
        came_back(&data, &format!("{} killed {kills} times", args[0]));
    }
}
