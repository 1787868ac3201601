"""Alembic's entry: runs revisions on the connection that store.migrate hands over."""

from alembic import context

from gristmill_coordinator.store import studio_tables, tables
from gristmill_coordinator.store.columns import metadata

assert {tables.jobs.name, studio_tables.drafts.name} < metadata.tables.keys()  # loading the modules put them there
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
