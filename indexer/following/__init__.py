"""The loop that keeps the table and the chain together, and reading ahead for it."""
