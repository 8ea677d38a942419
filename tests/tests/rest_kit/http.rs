//! A client that sends a path as it is written: every other one tidies it up.

use anyhow::{Context as _, Result, bail};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A request that is not answered by then hangs: a worker's own limit is 90 s.
const ANSWER: Duration = Duration::from_secs(100);

/// What a worker answered.
#[derive(Debug, Clone)]
pub struct Response {
    pub status: u16,
    /// names in lower case
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Response {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// Sends one request on a connection of its own to `address` (`host:port`).
pub async fn send(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    body: Option<&str>,
) -> Result<Response> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        let names_type = headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if let Some(body) = body {
            if !names_type {
                request.push_str("Content-Type: application/json\r\n");
            }
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        } else if method != "GET" && method != "HEAD" {
            request.push_str("Content-Length: 0\r\n");
        }
        request.push_str("\r\n");
        request.push_str(body.unwrap_or_default());
        stream.write_all(request.as_bytes()).await?;
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await?;
        parse(&received)
    };
    let answered = tokio::time::timeout(ANSWER, exchange).await;
    answered
        .with_context(|| format!("{method} {path} is not answered"))?
        .with_context(|| format!("{method} {path}"))
}

fn parse(received: &[u8]) -> Result<Response> {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.context("no end of the headers")?;
    let (head, body) = received.split_at(end);
    let body = body.get(4..).unwrap_or_default();
    let head = std::str::from_utf8(head)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    let status = status.context("no status")?.parse()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = match chunked {
        true => join_chunks(body)?,
        false => body.to_vec(),
    };
    Ok(Response {
        status,
        headers,
        body: String::from_utf8(body)?,
    })
}

fn join_chunks(mut rest: &[u8]) -> Result<Vec<u8>> {
    let mut joined = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n");
        let line = line.context("no length of a chunk")?;
        let length = std::str::from_utf8(rest.get(..line).unwrap_or_default())?;
        let length = usize::from_str_radix(length.split(';').next().unwrap_or_default().trim(), 16)?;
        if length == 0 {
            return Ok(joined);
        }
        let Some(chunk) = rest.get(line + 2..line + 2 + length) else {
            bail!("a chunk is cut off");
        };
        joined.extend_from_slice(chunk);
        rest = rest.get(line + 2 + length + 2..).unwrap_or_default();
    }
}
