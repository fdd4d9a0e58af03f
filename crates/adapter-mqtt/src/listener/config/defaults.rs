//! What holds where nothing is said.

use transload_adapter::units::{ByteSize, HumanDuration};

pub(super) fn max_logins() -> usize {
    1_000
}
pub(super) fn max_connections() -> usize {
    10_000
}
/// A payload of 1 MiB, and room for its topic and properties.
pub(super) fn max_packet_bytes() -> ByteSize {
    ByteSize::from_kib(1024 + 64)
}
pub(super) fn receive_maximum() -> u16 {
    256
}
pub(super) fn max_in_flight() -> u16 {
    256
}
pub(super) fn session_expiry_max() -> HumanDuration {
    HumanDuration::from_hours(7 * 24)
}
pub(super) fn max_sessions() -> usize {
    50_000
}
pub(super) fn max_subscriptions() -> usize {
    1_000
}
pub(super) fn max_subscriptions_in_all() -> usize {
    1_000_000
}
pub(super) fn max_queued_bytes_in_all() -> ByteSize {
    ByteSize::from_mib(1024)
}
pub(super) fn max_retained() -> usize {
    100_000
}
pub(super) fn max_retained_bytes() -> ByteSize {
    ByteSize::from_mib(256)
}
pub(super) fn max_queued_messages() -> usize {
    10_000
}
pub(super) fn max_queued_bytes() -> ByteSize {
    ByteSize::from_mib(64)
}
pub(super) fn slow_subscriber_wait() -> HumanDuration {
    HumanDuration::from_secs(1)
}
pub(super) fn connect_timeout() -> HumanDuration {
    HumanDuration::from_secs(10)
}
