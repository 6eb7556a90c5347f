"""Who runs where on this machine: folders, the pid file, the socket of the daemon."""
