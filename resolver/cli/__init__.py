"""The commands that ask a running daemon."""
