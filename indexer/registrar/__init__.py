"""The way back to the chain: transactions that carry an operation."""
