"""Zone files: bytes to record sets and back; pure."""
