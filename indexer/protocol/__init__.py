"""The naming protocol: operations, rules, rows, consensus, proofs; pure."""
