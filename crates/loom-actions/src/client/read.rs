//! Reads the body of a response within its limit, and decompresses gzip as it arrives.

use std::io::Write as _;

use bytes::{Bytes, BytesMut};
use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt as _;
use hyper::{HeaderMap, body::Incoming, header};

use super::classify;
use crate::{Failure, url::Url};

pub(super) struct Read<'a> {
    pub(super) url: &'a Url,
    pub(super) bytes_max: usize,
    pub(super) decompress: bool,
    pub(super) head_only: bool,
}

impl Read<'_> {
    /// The headers, without those that describe an encoding that was undone, and the whole body.
    pub(super) async fn whole(
        &self,
        mut headers: HeaderMap,
        mut body: Incoming,
    ) -> Result<(HeaderMap, Bytes), Failure> {
        if self.head_only {
            return Ok((headers, Bytes::new()));
        }
        // A body that announces a size over the limit is refused before it is read.
        let announced =
            headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if announced.is_some_and(|length| length > self.bytes_max as u64) {
            return Err(self.too_large());
        }
        let gzip = self.decompress
            && headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| {
                encoding
                    .to_str()
                    .is_ok_and(|name| matches!(name.trim().to_ascii_lowercase().as_str(), "gzip" | "x-gzip"))
            });
        let mut sink = if gzip {
            Sink::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))
        } else {
            Sink::Plain(BytesMut::new())
        };
        let mut received = false;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| classify::broken(&self.url.shown(), &error))?;
            let Ok(mut data) = frame.into_data() else { continue };
            received |= !data.is_empty();
            // In small pieces, so that a body that decompresses to a thousand times its size is detected in time.
            while !data.is_empty() {
                let piece = data.split_to(data.len().min(PIECE_BYTES));
                let so_far = sink.push(&piece).map_err(|_| self.bad_gzip())?;
                if so_far > self.bytes_max {
                    return Err(self.too_large());
                }
            }
        }
        if gzip {
            headers.remove(header::CONTENT_ENCODING);
            headers.remove(header::CONTENT_LENGTH);
        }
        let whole = if received { sink.finish().map_err(|_| self.bad_gzip())? } else { Bytes::new() };
        if whole.len() > self.bytes_max {
            return Err(self.too_large());
        }
        Ok((headers, whole))
    }

    fn too_large(&self) -> Failure {
        Failure::lasting(
            "ResponseTooLarge",
            format!("The response of '{}' exceeds the limit of {} bytes.", self.url.shown(), self.bytes_max),
        )
    }

    fn bad_gzip(&self) -> Failure {
        Failure::lasting(
            "BadGateway",
            format!("The response of '{}' is declared as gzip but is not valid gzip.", self.url.shown()),
        )
    }
}

const PIECE_BYTES: usize = 16 * 1024;

enum Sink {
    Plain(BytesMut),
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Sink {
    /// Adds bytes; returns how many bytes have come out so far.
    fn push(&mut self, data: &[u8]) -> std::io::Result<usize> {
        match self {
            Sink::Plain(whole) => {
                whole.extend_from_slice(data);
                Ok(whole.len())
            }
            Sink::Gzip(decoder) => {
                decoder.write_all(data)?;
                Ok(decoder.get_ref().len())
            }
        }
    }

    fn finish(self) -> std::io::Result<Bytes> {
        match self {
            Sink::Plain(whole) => Ok(whole.freeze()),
            Sink::Gzip(decoder) => decoder.finish().map(Bytes::from),
        }
    }
}
