//! The end of a process: told to stop under load it fails no request, killed it comes back with the same answers.
#![allow(clippy::unwrap_used, reason = "a test says where it broke")]

mod support;

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::TcpStream,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use serde_json::Value;
use support::{free_port, get, get_json, run_ok, serve, town, write_lines};

const CALLERS: usize = 12;

/// A request on a connection, and whether the connection goes on.
fn ask(stream: &mut BufReader<TcpStream>, path: &str) -> std::io::Result<bool> {
    stream.get_mut().write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())?;
    let (mut line, mut length, mut goes_on) = (String::new(), 0, true);
    if stream.read_line(&mut line)? == 0 {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
    loop {
        line.clear();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "connection" => goes_on = value.trim() != "close",
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    assert!(!String::from_utf8(body).unwrap().contains("\"recommendations\":[]"));
    Ok(goes_on)
}

/// What is recommended to some people, without what tells when.
fn answers(port: u16) -> Vec<Value> {
    (0..10).map(|u| get_json(port, &format!("/recommendations/u{u}?cache=false"))["recommendations"].clone()).collect()
}

#[test]
fn told_to_stop_it_fails_nobody_and_killed_it_comes_back_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let (data, file) = (dir.path().join("data"), dir.path().join("events.jsonl"));
    write_lines(&file, &town(5, 20, 600));
    run_ok(&data, &["import", file.to_str().unwrap()]);

    let port = free_port();
    let mut running = serve(&data, port);
    let before = answers(port);
    let (answered, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for n in 0..CALLERS {
            let (answered, failed) = (&answered, &failed);
            scope.spawn(move || {
                // Until nobody takes connections any more.
                while let Ok(stream) = TcpStream::connect(("127.0.0.1", port)) {
                    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                    let mut stream = BufReader::new(stream);
                    let path = format!("/recommendations/u{n}{}", if n % 2 == 0 { "?cache=false" } else { "" });
                    loop {
                        match ask(&mut stream, &path) {
                            Ok(goes_on) => {
                                answered.fetch_add(1, Ordering::Relaxed);
                                if !goes_on {
                                    break;
                                }
                            }
                            Err(_) => {
                                failed.fetch_add(1, Ordering::Relaxed);
                                break;
                            }
                        }
                    }
                }
            });
        }
        while answered.load(Ordering::Relaxed) < 500 {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(Command::new("kill").args(["-TERM", &running.0.id().to_string()]).status().unwrap().success());
    });
    assert!(running.0.wait().unwrap().success());
    assert_eq!(failed.load(Ordering::Relaxed), 0, "of {} requests", answered.load(Ordering::Relaxed));

    // Once more, and killed.
    let port = free_port();
    let mut running = serve(&data, port);
    assert_eq!(answers(port), before, "after an orderly end");
    running.0.kill().unwrap();
    running.0.wait().unwrap();
    assert!(get(port, "/health/live").is_err());
    let port = free_port();
    let _running = serve(&data, port);
    assert_eq!(answers(port), before, "after a kill");
    assert!(data.join("last_resort.json").exists(), "what is given when all stores are away lies in the data directory");
}
