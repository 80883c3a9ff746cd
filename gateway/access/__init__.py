"""Who may do what: API keys, tokens of an identity provider, roles, scopes and limits. See docs/access.md."""
