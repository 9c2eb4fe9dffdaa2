//! A server that greets as told and answers every command with the same document.

use mongodb::bson::{Document, doc, serialize_to_vec};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::proxy::message;

pub struct Fake {
    pub port: u16,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// `greeting` is added to what a standalone server says of itself; `answer` goes to every other command.
    pub async fn new(wire: i32, greeting: Document, answer: Document) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut hello = doc! {
            "ok": 1.0, "isWritablePrimary": true, "ismaster": true, "minWireVersion": 0, "maxWireVersion": wire,
            "maxBsonObjectSize": 16_777_216, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000,
            "localTime": mongodb::bson::DateTime::from_millis(0), "readOnly": false,
        };
        hello.extend(greeting);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(answer_all(client, hello.clone(), answer.clone()));
            }
        });
        Self { port, task }
    }
}

async fn answer_all(mut client: TcpStream, hello: Document, answer: Document) {
    while let Some(request) = message(&mut client).await {
        let has = |name: &[u8]| request.windows(name.len()).take(96).any(|w| w == name);
        let document = if has(b"hello\0") || has(b"isMaster\0") || has(b"ismaster\0") {
            hello.clone()
        } else if has(b"buildInfo\0") {
            doc! { "ok": 1.0, "version": "7.0.0" }
        } else {
            answer.clone()
        };
        let body = serialize_to_vec(&document).unwrap();
        let old = request[12..16] == 2004_u32.to_le_bytes();
        let mut reply = vec![0; 12];
        reply[8..12].copy_from_slice(&request[4..8]);
        if old {
            // OP_REPLY: flags, cursor, from, number.
            reply.extend(1_u32.to_le_bytes());
            reply.extend([0; 16]);
            reply.extend(1_u32.to_le_bytes());
        } else {
            reply.extend(2013_u32.to_le_bytes());
            reply.extend([0; 5]);
        }
        reply.extend(body);
        let length = u32::try_from(reply.len()).unwrap().to_le_bytes();
        reply[..4].copy_from_slice(&length);
        if client.write_all(&reply).await.is_err() {
            return;
        }
    }
}
