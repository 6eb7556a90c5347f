"""A Bitcoin node in a box, spoken to over the same JSON-RPC as a real one."""
