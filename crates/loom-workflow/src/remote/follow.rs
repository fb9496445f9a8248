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
    let path = format!("/api/v1/runs/{}/events", percent::encode(run));
    let mut after = 0;
    let what = format!("the event stream of run {run}");
    let streams = tail(connection, &path, Some("0".to_owned()), &what, |id, event| {
        let id = id.parse().unwrap_or(0);
        let is_new = id > after;
        after = after.max(id);
        is_new && each(event)
    });
    if streams.await? {
        return Ok(());
    }
    let all = |event: &Value| {
        each(event);
    };
    events(connection, run, 0, all).await.map(drop)
}

/// Calls `each` with the id and the data of every event of a stream, until it returns true. `last` is the id of the last event that
/// is known. False, without a call, for a data directory, which has no streams.
pub(super) async fn tail(
    connection: &Connection,
    path: &str,
    mut last: Option<String>,
    what: &str,
    mut each: impl FnMut(&str, &Value) -> bool,
) -> Result<bool, Refusal> {
    let (mut works, mut failures, mut ended, mut wait) = (false, 0, false, RECONNECT);
    loop {
        let mut stream = match connection.open(path, last.as_deref()).await {
            Ok(Some(stream)) => stream,
            Ok(None) => return Ok(false),
            // Before the first event, the address is probably wrong. Afterwards the server may be restarting.
            Err(Refusal::Unreachable(_) | Refusal::Answered { status: 503, .. })
                if works && failures < ATTEMPTS_MAX =>
            {
                failures += 1;
                tokio::time::sleep(wait).await;
                continue;
            }
            Err(refusal) => return Err(refusal),
        };
        let mut arrived = Blocks::default();
        while let Some(chunk) = next(&mut stream).await {
            failures = 0;
            arrived.push(&chunk);
            while let Some((id, event)) = arrived.pop_event() {
                works = true;
                ended |= each(&id, &event);
                last = Some(id);
            }
            if ended {
                return Ok(true);
            }
            wait = arrived.retry.unwrap_or(wait);
        }
        failures += 1;
        if failures > ATTEMPTS_MAX {
            return Err(Refusal::Unreachable(format!("{what} breaks again and again")));
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
pub(super) struct Blocks {
    bytes: Vec<u8>,
    /// The wait before the stream is opened again, if the server has set one.
    retry: Option<Duration>,
}

/// One server-sent event.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) id: Option<String>,
    pub(super) data: String,
}

impl Blocks {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.bytes.extend_from_slice(chunk);
    }

    /// What has arrived and was not taken.
    pub(super) fn rest(&self) -> &[u8] {
        &self.bytes
    }

    /// The next complete event. Comments and other blocks without data are skipped.
    pub(super) fn pop(&mut self) -> Option<Block> {
        loop {
            let end = self.bytes.windows(2).position(|pair| pair == b"\n\n")?;
            let block: Vec<u8> = self.bytes.drain(..end + 2).collect();
            let text = String::from_utf8_lossy(&block);
            let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let retry = field("retry:").and_then(|millis| millis.parse().ok());
            self.retry = retry.map(Duration::from_millis).or(self.retry);
            if let Some(data) = field("data:").filter(|data| !data.is_empty()) {
                return Some(Block { id: field("id:").map(str::to_owned), data: data.to_owned() });
            }
        }
    }

    /// The next event with an id and JSON, as streams of runs have them.
    fn pop_event(&mut self) -> Option<(String, Value)> {
        loop {
            let Block { id, data } = self.pop()?;
            if let (Some(id), Ok(data)) = (id, Value::parse_json(data.as_bytes())) {
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
            let (mut arrived, mut seen) = (Blocks::default(), Vec::new());
            for chunk in stream.chunks(step) {
                arrived.push(chunk);
                while let Some((id, event)) = arrived.pop_event() {
                    seen.push((id, event.get("seq").and_then(Value::as_i64)));
                }
            }
            assert_eq!(arrived.retry, Some(Duration::from_secs(1)));
            let expected = [("7".to_owned(), Some(7)), ("8".to_owned(), Some(8))];
            assert_eq!(seen, expected, "in parts of {step}");
        }
    }
}
