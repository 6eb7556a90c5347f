"""The name table in LevelDB: one block, one batch; snapshots to read, and rebuilding."""
