"""The schema and its history, as Alembic migrations written in SQL."""
