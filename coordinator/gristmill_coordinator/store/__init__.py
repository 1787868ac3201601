"""What the coordinator remembers: SQLite in WAL mode by default, Postgres for more than one replica."""
