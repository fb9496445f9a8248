//! Follows the events of a run over a server's event stream, which is opened again after the last event whenever it breaks.

use std::time::Duration;

use loom_actions::Streamed;
use loom_expression::{Value, percent};

use super::{
    connection::{Connection, Refusal},
    events,
};

/// The wait before a stream is opened again, unless the server sets another.
const RECONNECT: Duration = Duration::from_secs(1);

/// How often in a row a stream that once worked is opened again in vain.
const ATTEMPTS_MAX: u32 = 60;

/// A server sends a comment every 15 seconds, so a longer silence means that the connection is dead.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// Calls `each` with every event of the run, in order and once, until it returns true. In a data directory, where nothing executes
/// the run, with those that are there.
pub(super) async fn follow(
    connection: &Connection,
    run: &str,
    mut each: impl FnMut(&Value) -> bool,
) -> Result<(), Refusal> {
    let (mut after, mut failures, mut ended, mut wait) = (0, 0, false, RECONNECT);
    loop {
        let opened = connection.open(&format!("/api/v1/runs/{}/events", percent::encode(run)), after).await;
        let mut stream = match opened {
            Ok(Some(stream)) => stream,
            Ok(None) => {
                let all = |event: &Value| {
                    each(event);
                };
                return events(connection, run, after, all).await.map(drop);
            }
            // Before the first event, the address is probably wrong. Afterwards the server may be restarting.
            Err(Refusal::Unreachable(_) | Refusal::Answered { status: 503, .. })
                if after > 0 && failures < ATTEMPTS_MAX =>
            {
                failures += 1;
                tokio::time::sleep(wait).await;
                continue;
            }
            Err(refusal) => return Err(refusal),
        };
        let mut arrived = Arrived::default();
        while let Some(chunk) = next(&mut stream).await {
            failures = 0;
            arrived.push(&chunk);
            while let Some((id, event)) = arrived.pop() {
                if id > after {
                    after = id;
                    ended |= each(&event);
                }
            }
            if ended {
                return Ok(());
            }
            wait = arrived.retry.unwrap_or(wait);
        }
        failures += 1;
        if failures > ATTEMPTS_MAX {
            return Err(Refusal::Unreachable(format!(
                "the event stream of run {run} breaks again and again"
            )));
        }
        tokio::time::sleep(wait).await;
    }
}

/// The next part of a stream; none when it has ended, broken, or been silent for too long.
async fn next(stream: &mut Streamed) -> Option<bytes::Bytes> {
    tokio::time::timeout(SILENCE_MAX, stream.chunk()).await.ok()?.ok()?
}

/// What has arrived of a stream of server-sent events.
#[derive(Debug, Default)]
struct Arrived {
    bytes: Vec<u8>,
    /// The wait before the stream is opened again, if the server has set one.
    retry: Option<Duration>,
}

impl Arrived {
    fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
    }

    /// The next complete event, with its id. Comments and other blocks without data are skipped.
    fn pop(&mut self) -> Option<(u64, Value)> {
        loop {
            let end = self.bytes.windows(2).position(|pair| pair == b"\n\n")?;
            let block: Vec<u8> = self.bytes.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&block);
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let retry = field("retry:").and_then(|millis| millis.parse().ok());
            self.retry = retry.map(Duration::from_millis).or(self.retry);
            let id = field("id:").and_then(|id| id.parse().ok());
            let data = field("data:").and_then(|data| Value::parse_json(data.as_bytes()).ok());
            if let (Some(id), Some(data)) = (id, data) {
                return Some((id, data));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_complete_when_their_empty_line_arrives() {
        let stream = b"retry: 1000\n\n: still here\n\nid: 7\nevent: run.started\ndata: {\"seq\":7}\n\nid: 8\ndata: {\"seq\":8}\n\n";
        for step in 1..=stream.len() {
            let (mut arrived, mut seen) = (Arrived::default(), Vec::new());
            for chunk in stream.chunks(step) {
                arrived.push(chunk);
                while let Some((id, event)) = arrived.pop() {
                    seen.push((id, event.get("seq").and_then(Value::as_i64)));
                }
            }
            assert_eq!(arrived.retry, Some(Duration::from_secs(1)));
            assert_eq!(seen, [(7, Some(7)), (8, Some(8))], "in parts of {step}");
        }
    }
}
