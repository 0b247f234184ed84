//! Compressed bodies. Pure.
//!
//! What a client says about its body cannot be trusted: the official SDKs send `Content-Encoding: gzip` with bytes that are not compressed. So the two magic bytes
//! decide; no CSV or JSON starts with them.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;

use crate::error::{KustoError, KustoErrorKind};

const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// The body as it was before compression, at most `max` bytes of it.
///
/// # Errors
/// `Stream_InputStreamTooLarge` past `max`, `General_BadRequest` if the compressed data is damaged or cut off.
pub(crate) fn inflate(body: Bytes, max: usize) -> Result<Bytes, KustoError> {
    let inflated = if body.starts_with(&MAGIC) {
        let mut inflated = Vec::new();
        // One byte more than allowed tells a body at the limit from one past it, and bounds what a small bomb can unpack to.
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        MultiGzDecoder::new(body.as_ref())
            .take(limit)
            .read_to_end(&mut inflated)
            .map_err(|error| KustoError::bad_request(format!("the gzip body is damaged or cut off: {error}")))?;
        Bytes::from(inflated)
    } else {
        body
    };
    if inflated.len() > max {
        return Err(too_large(max));
    }
    Ok(inflated)
}

/// The body is larger than the server takes.
pub(crate) fn too_large(max: usize) -> KustoError {
    KustoError::new(KustoErrorKind::TooLarge, format!("the request body is larger than {max} bytes"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(data: &[u8]) -> Bytes {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap().into()
    }

    #[test]
    fn the_magic_bytes_decide_whether_a_body_is_compressed() {
        assert_eq!(inflate(gzip(b"a,b"), 10).unwrap(), "a,b");
        assert_eq!(inflate(Bytes::from_static(b"a,b"), 10).unwrap(), "a,b");
        assert_eq!(inflate(Bytes::new(), 10).unwrap(), "");
    }

    #[test]
    fn the_limit_counts_what_comes_out() {
        assert_eq!(inflate(gzip(&[b'a'; 10]), 10).unwrap().len(), 10);
        assert_eq!(inflate(gzip(&[b'a'; 11]), 10).unwrap_err().kind, KustoErrorKind::TooLarge);
        assert_eq!(inflate(gzip(&vec![0; 1 << 24]), 10).unwrap_err().kind, KustoErrorKind::TooLarge);
        assert_eq!(inflate(Bytes::from_static(b"12345678901"), 10).unwrap_err().kind, KustoErrorKind::TooLarge);
    }

    #[test]
    fn a_body_cut_off_is_a_bad_request() {
        let whole = gzip(b"a,b,c,d,e,f");
        let error = inflate(whole.slice(..whole.len() - 6), 100).unwrap_err();
        assert_eq!(error.kind, KustoErrorKind::BadRequest);
    }
}
