"""Bytes of blocks, headers, transactions and scripts; pure."""
