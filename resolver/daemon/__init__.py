"""The daemon's process, and its commands on the index."""
