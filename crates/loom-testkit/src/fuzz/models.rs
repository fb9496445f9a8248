//! Properties of the codecs of language models.

use loom_models::{Accumulator, Decoder, Delta, Endpoint, Head, Limits, ModelError, server};

/// A stream of chat completions.
pub fn model_chat(bytes: &[u8]) {
    stream(&Endpoint::openai(), bytes);
}

/// A stream of OpenAI Responses.
pub fn model_responses(bytes: &[u8]) {
    stream(&Endpoint::openai_responses(), bytes);
}

/// A stream of Anthropic messages.
pub fn model_anthropic(bytes: &[u8]) {
    stream(&Endpoint::anthropic(), bytes);
}

/// A stream of Ollama.
pub fn model_ollama(bytes: &[u8]) {
    stream(&Endpoint::ollama(), bytes);
}

/// Any bytes are an answer or an error, and the same one however they are cut. An answer ends once, with its last delta, and
/// survives being sent to a client of ours and read again.
fn stream(endpoint: &Endpoint, bytes: &[u8]) {
    let whole = decode(endpoint, bytes, bytes.len().max(1));
    for size in [1, 2, 3, 7, 64] {
        assert_eq!(decode(endpoint, bytes, size), whole, "chunks of {size}");
    }
    // An error body and a whole answer are read by other ways.
    for status in [200, 400, 529] {
        let head = Head::new(status, [("content-type", "application/json"), ("retry-after", "1")]);
        if let Err(error) = endpoint.decode(head, bytes, Limits::default(), 0) {
            assert!(!error.to_string().is_empty());
        }
    }
    let Ok(deltas) = whole else { return };
    let ends = deltas.iter().filter(|delta| matches!(delta, Delta::Stop { .. })).count();
    assert_eq!(ends, 1);
    assert!(matches!(deltas.last(), Some(Delta::Stop { .. })));
    let mut accumulator = Accumulator::default();
    accumulator.extend(&deltas);
    let answer = accumulator.finish().expect("it has ended");
    let mut again = Accumulator::default();
    again.extend(&answer.deltas(3));
    assert_eq!(again.finish().expect("it has ended"), answer);
    let mut chunks = server::Chunks::new(server::Head::new("id", "model", 0), true);
    let sent: Vec<u8> = deltas.iter().flat_map(|delta| chunks.encode(delta)).collect();
    let received = decode(&Endpoint::openai(), &sent, 5).expect("what we send can be read");
    let mut accumulator = Accumulator::default();
    accumulator.extend(&received);
    let received = accumulator.finish().expect("it has ended");
    let names = |answer: &loom_models::Answer| {
        answer
            .message
            .tool_calls()
            .map(|call| (call.name.clone(), call.arguments.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!((received.message.text(), names(&received)), (answer.message.text(), names(&answer)));
}

fn decode(endpoint: &Endpoint, bytes: &[u8], size: usize) -> Result<Vec<Delta>, ModelError> {
    let mut decoder =
        Decoder::new(endpoint, Head::new(200, [("content-type", "text/event-stream")]), Limits::default(), 0);
    let mut deltas = Vec::new();
    for chunk in bytes.chunks(size) {
        decoder.feed(chunk, &mut deltas)?;
    }
    decoder.finish(&mut deltas)?;
    Ok(deltas)
}

/// Any bytes are a request for chat completions or an error, and what was read survives being sent and read again.
pub fn model_door(bytes: &[u8]) {
    let Ok(asked) = server::decode(bytes, 1 << 20) else { return };
    let endpoint = Endpoint::openai();
    let Ok(sent) = endpoint.encode(&asked.request, asked.stream) else { return };
    let again = server::decode(&sent.body, usize::MAX).expect("what we send can be read");
    let sent_again = endpoint.encode(&again.request, again.stream).expect("it was sent before");
    assert_eq!(sent_again, sent);
    for other in [Endpoint::openai_responses(), Endpoint::anthropic(), Endpoint::ollama()] {
        other.encode(&asked.request, true).ok();
    }
}
