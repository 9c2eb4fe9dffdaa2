//! What other programs wrote: read once or twice, the effect is the same; what is wrong is named by file and line.

#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::{collections::BTreeMap, io::Read as _, path::Path};

use serde_json::{Value, json};
use support::{run, run_ok};

/// Imports twice, and gives the events that are there, by type, without their ids. The second time nothing is new.
fn imported(dir: &Path, args: &[&str], rejected: u64) -> BTreeMap<String, Vec<Value>> {
    let data = dir.join("data");
    let _ = std::fs::remove_dir_all(&data);
    let import = |args: &[&str]| -> Value {
        let out = run_ok(&data, &[&["import", "--json"], args].concat());
        serde_json::from_str(&out).unwrap()
    };
    let (first, second) = (import(args), import(args));
    assert_eq!(
        (&second["new"], &second["conflicts"], &second["records"]),
        (&json!(0), &json!(0), &first["records"]),
        "{second}"
    );
    assert_eq!(first["rejected"], rejected, "{first}");
    let out = dir.join("out");
    let _ = std::fs::remove_dir_all(&out);
    run_ok(&data, &["export", "--what", "events,items", "--format", "ndjson", "--out", out.to_str().unwrap()]);
    let manifest: Value = serde_json::from_slice(&std::fs::read(out.join("manifest.json")).unwrap()).unwrap();
    let mut all: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for file in manifest["files"].as_array().unwrap() {
        let mut text = String::new();
        let file = std::fs::File::open(out.join(file["path"].as_str().unwrap())).unwrap();
        flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
        for line in text.lines() {
            let event: Value = serde_json::from_str(line).unwrap();
            all.entry(event["type"].as_str().unwrap().to_owned()).or_default().push(event);
        }
    }
    all
}

/// The reasons of dead letters, with where they came from.
fn letters(dir: &Path) -> String {
    run_ok(&dir.join("data"), &["dlq", "list"])
}

/// What a refused import says.
fn refusal(dir: &Path, args: &[&str]) -> String {
    let out = run(&dir.join("refused"), &[&["import"], args].concat());
    assert_eq!(out.status.code(), Some(1));
    String::from_utf8_lossy(&out.stderr).into_owned()
}

#[test]
fn movielens() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(
        path("movies.csv"),
        "movieId,title,genres\r\n7,\"Sea, The (1999)\",Drama|Sea\r\n8,Hill (2001),(no genres listed)\r\n",
    )
    .unwrap();
    std::fs::write(
        path("ratings.csv"),
        "userId,movieId,rating,timestamp\r\n1,7,4.5,1260759144\r\n1,8,0.5,1260759145\r\n2,7,many,1260759146\r\n2,8,3.0\r\n2,8,3.0,1260759147\r\n",
    )
    .unwrap();
    let ratings = path("ratings.csv");
    for given in [ratings.to_str().unwrap(), dir.path().to_str().unwrap()] {
        let all = imported(dir.path(), &[given], 2);
        assert_eq!(all["item"].len(), 2);
        assert_eq!(all["item"][0]["text"], "Sea, The (1999)");
        assert_eq!((&all["item"][0]["categories"], &all["item"][1]["categories"]), (&json!(["Drama", "Sea"]), &json!([])));
        let e = &all["engagement"];
        assert_eq!(e.len(), 3);
        assert_eq!(
            (&e[0]["kind"], &e[0]["value"], &e[0]["timestamp"]),
            (&json!("rating"), &json!(4.5), &json!("2009-12-14T02:52:24Z"))
        );
        let letters = letters(dir.path());
        assert!(letters.contains("ratings.csv:4]") && letters.contains("no number"), "{letters}");
        assert!(letters.contains("ratings.csv:5]") && letters.contains("3 fields where 4"), "{letters}");
    }
    std::fs::write(&ratings, "user,item,rating,timestamp\n1,7,4.5,1260759144\n").unwrap();
    let said = refusal(dir.path(), &[ratings.to_str().unwrap()]);
    assert!(said.contains("ratings.csv:1: the header must be userId,movieId,rating,timestamp"), "{said}");
    // The older form, with a title in Latin-1.
    let older = path("ml-1m");
    std::fs::create_dir(&older).unwrap();
    std::fs::write(older.join("movies.dat"), b"3::Caf\xe9 (1990)::Comedy|Drama\n").unwrap();
    std::fs::write(older.join("ratings.dat"), "1::3::5::978300760\n2::3::1::978300761\n").unwrap();
    let all = imported(dir.path(), &[older.to_str().unwrap()], 0);
    assert_eq!((&all["item"][0]["text"], all["engagement"].len()), (&json!("Café (1990)"), 2));
    assert_eq!(all["engagement"][0]["timestamp"], "2000-12-31T22:12:40Z");
}

#[test]
fn stack_exchange() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(
        path("Posts.xml"),
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<posts>\n\
  <row Id=\"1\" PostTypeId=\"1\" CreationDate=\"2020-01-02T03:04:05.678\" LastEditDate=\"2020-02-01T00:00:00.000\" OwnerUserId=\"10\" \
Title=\"Which malt?\" Body=\"&lt;p&gt;Pale &amp;amp; &lt;b&gt;dry&lt;/b&gt;&lt;/p&gt;&#xA;\" Tags=\"&lt;malt&gt;&lt;dry-hop&gt;\" />\n\
  <row Id=\"2\" PostTypeId=\"2\" ParentId=\"1\" CreationDate=\"2020-01-03T00:00:00.000\" OwnerUserId=\"11\" Body=\"&lt;p&gt;Munich.&lt;/p&gt;\" />\n\
  <row Id=\"3\" PostTypeId=\"2\" ParentId=\"1\" CreationDate=\"2020-01-04T00:00:00.000\" Body=\"nobody's\" />\n\
  <row Id=\"4\" PostTypeId=\"5\" CreationDate=\"2020-01-04T00:00:00.000\" OwnerUserId=\"11\" Body=\"a wiki\" />\n\
  <row Id=\"5\" PostTypeId=\"1\" OwnerUserId=\"11\" Title=\"When?\" Body=\"\" Tags=\"|time|\" />\n</posts>\n",
    )
    .unwrap();
    std::fs::write(
        path("Comments.xml"),
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<comments>\n  <row Id=\"1\" PostId=\"2\" Text=\"Agreed &amp; done\" \
CreationDate=\"2020-01-05T00:00:00.000\" UserId=\"12\" />\n  <row Id=\"2\" PostId=\"99\" Text=\"lost\" CreationDate=\"2020-01-05T00:00:00.000\" UserId=\"12\" />\n</comments>",
    )
    .unwrap();
    let all = imported(dir.path(), &[path("Posts.xml").to_str().unwrap()], 1);
    assert_eq!(all["item"].len(), 1);
    let item = &all["item"][0];
    assert_eq!((&item["item_id"], &item["text"]), (&json!("1"), &json!("Which malt?. Pale & dry")));
    assert_eq!((&item["categories"], &item["timestamp"]), (&json!(["dry-hop", "malt"]), &json!("2020-02-01T00:00:00Z")));
    let of: Vec<_> = all["message"]
        .iter()
        .map(|m| (m["message_id"].clone(), m["user_id"].clone(), m["item_id"].clone(), m["text"].clone()))
        .collect();
    let row = |id: &str, user: &str, text: &str| (json!(id), json!(user), json!("1"), json!(text));
    assert_eq!(
        of,
        [
            row("post-1", "10", "Which malt?. Pale & dry"),
            row("post-2", "11", "Munich."),
            row("comment-1", "12", "Agreed & done")
        ]
    );
    let letters = letters(dir.path());
    assert!(letters.contains("Posts.xml:7]") && letters.contains("no CreationDate"), "{letters}");
    // Torn in the middle of a row, and between two.
    let text = std::fs::read_to_string(path("Posts.xml")).unwrap();
    for end in [text.find("Munich").unwrap(), text.find("</posts>").unwrap()] {
        std::fs::write(path("Posts.xml"), &text[..end]).unwrap();
        let said = refusal(dir.path(), &[path("Posts.xml").to_str().unwrap()]);
        assert!(said.contains("Posts.xml:"), "{said}");
    }
    std::fs::remove_file(path("Posts.xml")).unwrap();
    let said = refusal(dir.path(), &[path("Comments.xml").to_str().unwrap()]);
    assert!(said.contains("needs Posts.xml beside it"), "{said}");
}

/// What all three forms of Gorse's data say.
fn gorse_says(all: &BTreeMap<String, Vec<Value>>) {
    let (items, e) = (&all["item"], &all["engagement"]);
    assert_eq!((items.len(), e.len()), (2, 3));
    assert_eq!((&items[0]["item_id"], &items[0]["text"], &items[0]["hidden"]), (&json!("a"), &json!("A lamp"), &json!(false)));
    assert_eq!(items[0]["categories"], json!(["home", "light"]));
    assert_eq!(items[0]["timestamp"], "2026-01-02T03:04:05Z");
    assert_eq!((&items[1]["text"], &items[1]["hidden"]), (&Value::Null, &json!(true)));
    let told: Vec<_> =
        e.iter().map(|e| (e["kind"].as_str().unwrap(), e["user_id"].as_str().unwrap(), e["value"].as_f64().unwrap())).collect();
    assert_eq!(told, [("read", "v", 1.0), ("read", "u", 1.0), ("star", "u", 4.5)]);
    assert_eq!((&e[0]["timestamp"], &e[1]["timestamp"]), (&json!("1970-01-01T00:00:00Z"), &json!("2026-01-03T00:00:00Z")));
}

#[test]
fn gorse_as_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("users.jsonl"), "{\"UserId\":\"u\",\"Labels\":null,\"Comment\":\"\"}\n").unwrap();
    std::fs::write(
        path("items.jsonl"),
        "{\"ItemId\":\"a\",\"IsHidden\":false,\"Categories\":[\"light\",\"home\"],\"Timestamp\":\"2026-01-02T03:04:05Z\",\"Labels\":{\"topics\":[\"x\"]},\"Comment\":\"A lamp\"}\n\
         {\"ItemId\":\"b\",\"IsHidden\":true,\"Categories\":null,\"Timestamp\":\"0001-01-01T00:00:00Z\",\"Labels\":null,\"Comment\":\"\"}\n",
    )
    .unwrap();
    std::fs::write(
        path("feedback.jsonl"),
        "{\"FeedbackType\":\"read\",\"UserId\":\"u\",\"ItemId\":\"a\",\"Value\":0,\"Timestamp\":\"2026-01-03T00:00:00Z\",\"Updated\":\"0001-01-01T00:00:00Z\",\"Comment\":\"\"}\n\
         {\"FeedbackType\":\"star\",\"UserId\":\"u\",\"ItemId\":\"b\",\"Value\":4.5,\"Timestamp\":\"2026-01-03T00:00:01Z\",\"Comment\":\"\"}\n\
         {\"FeedbackType\":\"read\",\"UserId\":\"v\",\"ItemId\":\"b\",\"Timestamp\":\"0001-01-01T00:00:00Z\",\"Comment\":\"\"}\n\
         {\"FeedbackType\":\"read\",\"UserId\":\"v\"}\nnonsense\n",
    )
    .unwrap();
    let all = imported(dir.path(), &[dir.path().to_str().unwrap()], 2);
    gorse_says(&all);
    assert_eq!(all["item"][0]["attributes"], json!({"labels": {"topics": ["x"]}}));
    let letters = letters(dir.path());
    assert!(
        letters.contains("feedback.jsonl:4]") && letters.contains("no ItemId") && letters.contains("feedback.jsonl:5]"),
        "{letters}"
    );
}

#[test]
fn gorse_as_csv() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(
        path("items.csv"),
        "item_id,is_hidden,categories,time_stamp,labels,description\na,false,light|home,2026-01-02 03:04:05 +0000 UTC,x,A lamp\nb,true,,,,\n",
    )
    .unwrap();
    std::fs::write(
        path("feedback.csv"),
        "feedback_type,user_id,item_id,value,time_stamp\nread,u,a,,2026-01-03\nstar,u,b,4.5,2026-01-03T00:00:01Z\nread,v,b,0,\n",
    )
    .unwrap();
    gorse_says(&imported(dir.path(), &[path("feedback.csv").to_str().unwrap(), "--from", "gorse"], 0));
    std::fs::write(path("feedback.csv"), "kind,user,item\nread,u,a\n").unwrap();
    let said = refusal(dir.path(), &[dir.path().to_str().unwrap()]);
    assert!(said.contains("feedback.csv:1: the header has no feedbacktype"), "{said}");
}

/// A field of a Protocol Buffers message: text or a message within.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    assert!(bytes.len() < 128);
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

/// A time in seconds since 1970.
fn stamp(mut seconds: u64) -> Vec<u8> {
    let mut out = vec![1 << 3];
    while seconds >= 128 {
        out.push(seconds as u8 | 128);
        seconds >>= 7;
    }
    out.push(seconds as u8);
    out
}

#[test]
fn gorse_as_a_dump() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("gorse.bin");
    let framed = |message: Vec<u8>| [&(message.len() as i64).to_le_bytes()[..], &message].concat();
    let zero = stamp(-62_135_596_800_i64 as u64);
    let user = framed([field(1, b"u"), field(2, b"null")].concat());
    let items = [
        framed(
            [
                field(2, b"a"),
                field(4, b"light"),
                field(4, b"home"),
                field(5, &stamp(1_767_323_045)),
                field(6, b"{\"x\":1}"),
                field(7, b"A lamp"),
            ]
            .concat(),
        ),
        framed([field(2, b"b"), vec![3 << 3, 1], field(5, &zero), field(6, b"null")].concat()),
    ];
    let who = |kind: &[u8], user: &[u8], item: &[u8]| [field(2, kind), field(3, user), field(4, item)].concat();
    // Of the version with values, and of the one before.
    let star = [vec![5 << 3 | 1], 4.5_f64.to_le_bytes().to_vec()].concat();
    let feedback = [
        framed([who(b"read", b"u", b"a"), field(6, &stamp(1_767_398_400))].concat()),
        framed([who(b"star", b"u", b"b"), star, field(6, &stamp(1_767_398_401))].concat()),
        framed([who(b"read", b"v", b"b"), field(5, &zero), field(6, b"a comment")].concat()),
    ];
    let mark = |n: i64| n.to_le_bytes().to_vec();
    let whole = [mark(-1), user, mark(-2), items.concat(), mark(-3), feedback.concat(), mark(0)].concat();
    std::fs::write(&path, &whole).unwrap();
    gorse_says(&imported(dir.path(), &[path.to_str().unwrap()], 0));
    std::fs::write(&path, &whole[..whole.len() - 12]).unwrap();
    let said = refusal(dir.path(), &[path.to_str().unwrap()]);
    assert!(said.contains("gorse.bin: behind message 5") && said.contains("torn"), "{said}");
}

#[test]
fn what_is_none_of_these() {
    let dir = tempfile::tempdir().unwrap();
    let said = refusal(dir.path(), &[dir.path().to_str().unwrap()]);
    assert!(said.contains("holds no export, no ratings.csv"), "{said}");
    let file = dir.path().join("events.jsonl");
    std::fs::write(&file, "{\"user_id\":\"u\",\"message\":\"m\",\"timestamp\":\"2026-01-01T00:00:00Z\"}\n").unwrap();
    let said = refusal(dir.path(), &[file.to_str().unwrap(), "--from", "stackexchange"]);
    assert!(said.contains("is no data of stackexchange"), "{said}");
    run_ok(&dir.path().join("data"), &["import", file.to_str().unwrap()]);
}
