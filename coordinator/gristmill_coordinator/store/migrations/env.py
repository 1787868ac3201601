"""Alembic's entry: runs revisions on the connection that store.migrate hands over."""

from alembic import context

from gristmill_coordinator.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()
