"""Who may call. Default deny: what is not let in here is not let in."""
