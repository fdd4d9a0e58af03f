//! The HTTP adapter: a listener for webhooks and event streams, and a client.
