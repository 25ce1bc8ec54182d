"""Budgets for language models on behalf of a tenant."""

from uuid import UUID

from opsfleet.domain.budgets import Budget, first_day
from opsfleet.domain.partitions import Month
from opsfleet.store.database import Connection


async def get(connection: Connection, organization_id: UUID, month: Month) -> Budget | None:
    """Return the budget that holds in `month`: its own, or that of the last month before it that has one."""
    row = await connection.fetchrow(
        """
        SELECT month, amount_usd, warning_percent, critical_percent FROM llm_budgets
        WHERE organization_id = $1 AND month <= $2 ORDER BY month DESC LIMIT 1
        """,
        organization_id,
        first_day(month),
    )
    if row is None:
        return None
    return Budget(
        Month(row["month"].year, row["month"].month),
        row["amount_usd"],
        row["warning_percent"],
        row["critical_percent"],
    )


async def put(connection: Connection, organization_id: UUID, budget: Budget) -> None:
    """Store the budget of its month, in place of the one that the month has."""
    await connection.execute(
        """
        INSERT INTO llm_budgets (organization_id, month, amount_usd, warning_percent, critical_percent)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (organization_id, month) DO UPDATE SET amount_usd = EXCLUDED.amount_usd,
            warning_percent = EXCLUDED.warning_percent, critical_percent = EXCLUDED.critical_percent,
            updated_at = now()
        """,
        organization_id,
        first_day(budget.month),
        budget.amount_usd,
        budget.warning_percent,
        budget.critical_percent,
    )


async def delete(connection: Connection, organization_id: UUID, month: Month) -> bool:
    """Remove the budget of `month` itself; False when it has none of its own."""
    return bool(
        await connection.fetchval(
            "DELETE FROM llm_budgets WHERE organization_id = $1 AND month = $2 RETURNING true",
            organization_id,
            first_day(month),
        )
    )
