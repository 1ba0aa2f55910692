"""What may be asked for and shown: normaliser, locked rules, verdicts.  See docs/spec/policy-v1.md."""
