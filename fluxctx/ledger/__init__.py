"""The account's append-only record: a Merkle tree with signed checkpoints (docs/spec/ledger-v1.md)."""
