//! The accept loop that every listener of the gateway shares.
