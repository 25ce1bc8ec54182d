"""What pgqueuer's scheduler keeps: the schedules, and the log table without which it does not start."""

from alembic import op
from pgqueuer.adapters.persistence import schema_ddl
from pgqueuer.domain.schema.declaration import target

from opsfleet.store.jobs import SETTINGS

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_TABLES = (SETTINGS.schedules_table, SETTINGS.queue_table_log)


def upgrade() -> None:
    """Apply the change."""
    schema = target(SETTINGS)
    for kind in schema.enums:
        op.execute(schema_ddl.render_enum(kind, SETTINGS))
    for table in schema.tables:
        if table.name in _TABLES:
            op.execute(schema_ddl.render_table(table, SETTINGS))
    for index in schema.indexes:
        if index.table in _TABLES:
            op.execute(schema_ddl.render_index(index, SETTINGS))


def downgrade() -> None:
    """Take the change back."""
    op.execute(f"DROP TABLE {', '.join(_TABLES)}")
    op.execute(f"DROP TYPE {SETTINGS.queue_status_type}")
