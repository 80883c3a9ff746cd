"""What becomes of sessions: kept in a database, so that experiments can be read after the fact."""
