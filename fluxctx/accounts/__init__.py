"""Who may do what: plans, status, terms, strikes, and the sealed registry that holds them (P7, P9)."""
