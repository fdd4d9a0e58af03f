//! What is done with a message that was written to disk. Nothing here may panic, whatever it is.

use bytes::Bytes;
use transload_envelope::codec;

/// A message as it stands on disk, and its arguments: what was read is written the same way.
pub fn envelope(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(envelope) = codec::decode(&bytes) {
        let (mut written, mut again) = (Vec::new(), Vec::new());
        codec::encode(&envelope, &mut written);
        let read = codec::decode(&written.clone().into());
        if let Ok(read) = &read {
            codec::encode(read, &mut again);
        }
        assert_eq!(written, again, "{read:?}");
    }
    if let Ok(arguments) = codec::decode_arguments(&bytes) {
        let mut written = Vec::new();
        codec::encode_arguments(&arguments, &mut written);
        assert_eq!(codec::decode_arguments(&written.into()), Ok(arguments));
    }
}
