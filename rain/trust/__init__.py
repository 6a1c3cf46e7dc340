"""Who may be in the pool: certificates, removals, invitations and pool keys, known to everybody."""
