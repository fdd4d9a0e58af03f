//! Queues in memory and on disk, leases, retry and dead letters.
