//! Real brokers, started and stopped by the tests.
