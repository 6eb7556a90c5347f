"""What this node holds, on disk."""
