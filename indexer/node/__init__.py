"""Where blocks come from: a Bitcoin node over RPC, REST and ZeroMQ."""
