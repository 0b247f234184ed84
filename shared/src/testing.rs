//! A cluster on loopback that says what a unit test wants to hear. I/O: HTTP. Only in builds with tests: the crates whose tests take it ask for the feature among
//! their dev-dependencies.

use kql::endpoint::ClusterEndpoint;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// A request, as it came.
#[derive(Debug)]
pub struct Asked {
    /// Its first line: method, path and version.
    pub line: String,
    /// Its body.
    pub body: String,
}

impl Asked {
    /// The text of a query or command.
    pub fn text(&self) -> String {
        let body: Value = serde_json::from_str(&self.body).expect("queries and commands travel as JSON");
        body["csl"].as_str().expect("the text is a string").to_owned()
    }
}

/// A cluster that answers each request with a status and a body, one after the other.
pub async fn answering_cluster(answer: impl Fn(&Asked) -> (u16, Value) + Send + 'static) -> ClusterEndpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let asked = read_request(&mut connection).await;
            let (status, body) = answer(&asked);
            write_answer(&mut connection, status, &body.to_string()).await;
        }
    });
    ClusterEndpoint::parse(&format!("http://{address}")).expect("an address on loopback is an endpoint")
}

/// Reads one request to its end.
pub async fn read_request(connection: &mut TcpStream) -> Asked {
    let (mut seen, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let read = connection.read(&mut part).await.expect("the connection holds");
        assert!(read > 0, "the request ends before its end");
        seen.extend_from_slice(&part[..read]);
        let Some(end) = seen.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
        let (head, body) = (String::from_utf8_lossy(&seen[..end]), &seen[end + 4..]);
        let length = head.lines().find_map(|header| {
            let (name, value) = header.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
        });
        if body.len() >= length.unwrap_or(0_usize) {
            let line = head.lines().next().unwrap_or_default().to_owned();
            return Asked { line, body: String::from_utf8_lossy(body).into_owned() };
        }
    }
}

/// Answers with a status and a body, and no more on this connection.
pub async fn write_answer(connection: &mut TcpStream, status: u16, body: &str) {
    let head = format!("HTTP/1.1 {status} \r\ncontent-type: application/json\r\nconnection: close");
    let reply = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    connection.write_all(reply.as_bytes()).await.expect("the connection holds");
}
