"""A run may occupy several device slots."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("device_slots") as batch:
        batch.drop_constraint("uq_device_slots_run_number", type_="unique")
