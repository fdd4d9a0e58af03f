//! The NATS adapter: core subjects and JetStream.
