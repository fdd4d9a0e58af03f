//! Unpacks bodies within bounds.

use std::{io::Read as _, sync::Arc};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::yield_now,
};

use super::body::{BodyError, reserve};

/// What is unpacked between two chances for other tasks, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Unpacks gzip (RFC 1952), one member or several. However small it was, what comes out of it holds
/// its room among all bodies before it is kept.
pub(super) async fn gunzip(
    packed: &[u8],
    bytes_max: usize,
    buffered: &Arc<Semaphore>,
) -> Result<(Bytes, OwnedSemaphorePermit), BodyError> {
    let mut decoder = MultiGzDecoder::new(packed);
    let mut held = reserve(buffered, 0)?;
    let mut unpacked = Vec::new();
    let mut piece = vec![0; PIECE_BYTES.min(bytes_max.saturating_add(1))];
    loop {
        let count = decoder.read(&mut piece).map_err(|_| BodyError::NotGzip)?;
        if count == 0 {
            break;
        }
        if count > bytes_max - unpacked.len() {
            return Err(BodyError::TooLarge);
        }
        held.merge(reserve(buffered, count)?);
        unpacked.extend_from_slice(piece.get(..count).unwrap_or_default());
        yield_now().await;
    }
    Ok((Bytes::from(unpacked), held))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, write::GzEncoder};
    use proptest::prelude::*;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn unpack(packed: &[u8], bytes_max: usize, room: usize) -> Result<Bytes, BodyError> {
        let buffered = Arc::new(Semaphore::new(room));
        let unpacked = gunzip(packed, bytes_max, &buffered).await.map(|(bytes, held)| {
            assert_eq!(held.num_permits(), bytes.len());
            bytes
        });
        assert_eq!(buffered.available_permits(), room, "all room is back");
        unpacked
    }

    #[tokio::test]
    async fn what_is_unpacked_is_bounded() {
        let packed = gzip(b"hello");
        assert_eq!(unpack(&packed, 5, 5).await.unwrap(), "hello");
        assert_eq!(unpack(&packed, 4, 5).await, Err(BodyError::TooLarge));
        assert_eq!(unpack(&packed, 5, 4).await, Err(BodyError::NoRoom));
        let twice = [packed.clone(), packed.clone()].concat();
        assert_eq!(unpack(&twice, 10, 10).await.unwrap(), "hellohello");
        for cut in 0..packed.len() {
            assert_eq!(unpack(&packed[..cut], 5, 5).await, Err(BodyError::NotGzip), "{cut}");
        }
        assert_eq!(unpack(b"hello", 5, 5).await, Err(BodyError::NotGzip));
        // Some kilobytes that come to a gigabyte, of which only the beginning is unpacked.
        let bomb = gzip(&vec![0; 1 << 20]).repeat(1_024);
        assert_eq!(unpack(&bomb, 1 << 20, 8 << 20).await, Err(BodyError::TooLarge));
        assert_eq!(unpack(&bomb, 1 << 30, 1 << 20).await, Err(BodyError::NoRoom));
    }

    proptest! {
        #[test]
        fn anything_is_unpacked_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), flip in any::<usize>(),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut packed = gzip(&bytes);
            let unpacked = runtime.block_on(unpack(&packed, 200, 200)).unwrap();
            prop_assert_eq!(&unpacked[..], &bytes[..]);
            let place = flip % packed.len();
            packed[place] ^= 1;
            if let Ok(unpacked) = runtime.block_on(unpack(&packed, 200, 200)) {
                prop_assert!(unpacked.len() <= 200);
            }
        }
    }
}
