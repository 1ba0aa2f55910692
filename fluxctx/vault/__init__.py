"""The vault: sealed items that live exactly as long as their key slot (docs/spec/vault-v1.md)."""
