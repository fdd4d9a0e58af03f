//! Reads bodies within bounds.

use std::{pin::pin, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// What is set aside for a body before any of it has arrived, in bytes.
const FIRST_BYTES_MAX: usize = 64 * 1024;
/// How much of a body that is refused is read all the same, so that a client which writes before it
/// reads gets to see the refusal and not a broken connection.
const DISCARDED_BYTES_MAX: usize = 1024 * 1024;
/// How long that may take.
const DISCARD_TIMEOUT: Duration = Duration::from_millis(500);

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyError {
    /// It is larger than allowed.
    TooLarge,
    /// All bodies together are.
    NoRoom,
    /// It did not arrive in time.
    TimedOut,
    /// The sender broke off, or broke the framing.
    Broken,
    /// It is not packed as it says.
    NotGzip,
}

/// Room for so many bytes among all bodies.
pub(super) fn reserve(
    buffered: &Arc<Semaphore>,
    bytes: usize,
) -> Result<OwnedSemaphorePermit, BodyError> {
    let permits = u32::try_from(bytes).map_err(|_| BodyError::TooLarge)?;
    Arc::clone(buffered).try_acquire_many_owned(permits).map_err(|_| BodyError::NoRoom)
}

/// Reads a body. The permit stands for its bytes among all that are held.
pub(super) async fn read(
    body: &mut Incoming,
    bytes_max: usize,
    buffered: &Arc<Semaphore>,
    within: Duration,
) -> Result<(Bytes, OwnedSemaphorePermit), BodyError> {
    let mut reading = pin!(collect(body, bytes_max, buffered));
    // Nearly all bodies have come with their head, and need no clock.
    match futures_util::poll!(reading.as_mut()) {
        Poll::Ready(read) => read,
        Poll::Pending => timeout(within, reading).await.unwrap_or(Err(BodyError::TimedOut)),
    }
}

async fn collect(
    body: &mut Incoming,
    bytes_max: usize,
    buffered: &Arc<Semaphore>,
) -> Result<(Bytes, OwnedSemaphorePermit), BodyError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > bytes_max {
        return Err(BodyError::TooLarge);
    }
    // Reserved as it arrives, so that nobody can hold room with an announcement.
    let mut held = reserve(buffered, 0)?;
    let mut collected = Vec::with_capacity(announced.min(FIRST_BYTES_MAX));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyError::Broken)?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > bytes_max - collected.len() {
            return Err(BodyError::TooLarge);
        }
        held.merge(reserve(buffered, data.len())?);
        collected.extend_from_slice(&data);
    }
    // The conversion gives back the vector's spare room.
    Ok((Bytes::from(collected), held))
}

/// Reads and forgets a little more of a refused body, to its end if that is near.
pub(super) async fn discard(body: &mut Incoming) {
    let read = async {
        let mut discarded = 0;
        while discarded < DISCARDED_BYTES_MAX
            && !body.is_end_stream()
            && let Some(Ok(frame)) = body.frame().await
        {
            discarded += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // If it was not all read, the connection is closed.
    drop(timeout(DISCARD_TIMEOUT, read).await);
}
