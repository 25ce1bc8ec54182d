"""Metrics: minutes and roll-ups by month and period, last raw values, groups' names, leases, budgets."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

# 8-byte columns first and the short ones last: a row of minutes must stay small, and padding is the easiest to save.
METRICS = (
    """
    CREATE TABLE server_metrics_aggregated (
        timestamp timestamptz NOT NULL,
        network_rx_bytes bigint,
        network_tx_bytes bigint,
        llm_requests bigint,
        server_id uuid NOT NULL,
        cpu_percent real,
        memory_percent real,
        disk_percent real,
        cpu_percent_max real,
        memory_percent_max real,
        disk_percent_max real,
        active_users integer,
        total_users integer,
        active_services smallint,
        failed_services smallint,
        total_services smallint,
        sample_count smallint NOT NULL,
        period text COLLATE "C" NOT NULL CHECK (period IN ('1m', '5m', '15m', '1h', '1d')),
        llm_cost_usd numeric
    ) PARTITION BY RANGE (timestamp)
    """,
    """
    CREATE TABLE server_metrics_aggregated_default PARTITION OF server_metrics_aggregated DEFAULT
    """,
)

# What was collected last of each server: the raw counters, so that the next collection can tell the increase, and the
# minute of its newest row. Costs are whole millionths of a dollar here, which add up exactly.
LAST_COLLECTIONS = (
    """
    CREATE TABLE server_last_collections (
        server_id uuid PRIMARY KEY,
        collected_at timestamptz,
        minute timestamptz,
        network_rx_bytes bigint,
        network_tx_bytes bigint,
        llm_requests bigint,
        llm_cost_microusd bigint,
        cpu_idle_seconds double precision,
        cpu_total_seconds double precision,
        error text
    ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.5)
    """,
    """
    CREATE TABLE metrics_writer (
        singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
        last_batch uuid
    )
    """,
    """
    INSERT INTO metrics_writer DEFAULT VALUES
    """,
)

# Which buckets have rows that their roll-up does not know yet, and the roll-up of whole organizations, kept by region
# and environment so that a chart of the fleet need not read the rows of every server. Sums and counts, not averages:
# they can be added up over any set of rows.
ROLLUPS = (
    """
    CREATE TABLE metrics_rollups_due (
        period text COLLATE "C" NOT NULL,
        bucket timestamptz NOT NULL,
        noted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (period, bucket)
    )
    """,
    """
    CREATE TABLE fleet_metrics (
        organization_id uuid NOT NULL,
        period text COLLATE "C" NOT NULL,
        timestamp timestamptz NOT NULL,
        region text NOT NULL,
        environment text NOT NULL,
        servers integer NOT NULL,
        sample_count bigint NOT NULL,
        cpu_percent_sum double precision,
        cpu_percent_count integer NOT NULL,
        cpu_percent_max real,
        memory_percent_sum double precision,
        memory_percent_count integer NOT NULL,
        memory_percent_max real,
        disk_percent_sum double precision,
        disk_percent_count integer NOT NULL,
        disk_percent_max real,
        network_rx_bytes numeric,
        network_tx_bytes numeric,
        active_services bigint,
        failed_services bigint,
        total_services bigint,
        llm_requests numeric,
        llm_cost_usd numeric,
        active_users bigint,
        total_users bigint,
        PRIMARY KEY (organization_id, period, timestamp, region, environment)
    ) PARTITION BY RANGE (timestamp)
    """,
    """
    CREATE TABLE fleet_metrics_default PARTITION OF fleet_metrics DEFAULT
    """,
)

# Time in which nobody checked a server: it was inactive, or the control plane did not run.
UNMONITORED = (
    """
    CREATE TABLE unmonitored_periods (
        server_id uuid NOT NULL,
        started_at timestamptz NOT NULL,
        ended_at timestamptz NOT NULL,
        PRIMARY KEY (server_id, started_at)
    )
    """,
)

GROUPS = (
    """
    CREATE TABLE server_groups (
        id uuid PRIMARY KEY,
        organization_id uuid NOT NULL REFERENCES organizations (id),
        name text NOT NULL,
        description text NOT NULL DEFAULT '',
        color text NOT NULL DEFAULT '#64748B' CHECK (color ~ '^#[0-9A-F]{6}$'),
        tags jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(tags) = 'array'),
        regions jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(regions) = 'array'),
        environments jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(environments) = 'array'),
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (organization_id, name)
    )
    """,
    """
    CREATE TABLE server_group_members (
        group_id uuid NOT NULL REFERENCES server_groups (id) ON DELETE CASCADE,
        server_id uuid NOT NULL REFERENCES managed_servers (id) ON DELETE CASCADE,
        PRIMARY KEY (group_id, server_id)
    )
    """,
    """
    CREATE INDEX server_group_members_server ON server_group_members (server_id)
    """,
    # By hand, or by the rule: every kind of condition that is given must hold, and at least one must be given.
    """
    CREATE VIEW v_server_group_members AS
    SELECT members.group_id, servers.organization_id, members.server_id
    FROM server_group_members AS members
    JOIN managed_servers AS servers ON servers.id = members.server_id
    UNION
    SELECT groups.id, groups.organization_id, servers.id
    FROM server_groups AS groups
    JOIN managed_servers AS servers ON servers.organization_id = groups.organization_id
    WHERE (groups.tags <> '[]' OR groups.regions <> '[]' OR groups.environments <> '[]')
        AND servers.tags @> groups.tags
        AND (groups.regions = '[]' OR groups.regions ? servers.region)
        AND (groups.environments = '[]' OR groups.environments ? servers.environment)
    """,
)

# `term` grows with every change of hands: what the holder of an earlier term writes is refused.
LEASES = (
    """
    CREATE TABLE worker_leases (
        name text PRIMARY KEY,
        term bigint NOT NULL,
        holder uuid,
        acquired_at timestamptz
    )
    """,
    """
    INSERT INTO worker_leases (name, term) VALUES ('polling', 0)
    """,
    """
    ALTER TABLE fleet_workers ADD COLUMN state text NOT NULL DEFAULT 'active'
        CHECK (state IN ('active', 'standby', 'none'))
    """,
)

# A budget holds from its month on, until a later month has one of its own.
BUDGETS = (
    """
    CREATE TABLE llm_budgets (
        organization_id uuid NOT NULL REFERENCES organizations (id),
        month date NOT NULL CHECK (month = date_trunc('month', month::timestamp)::date),
        amount_usd numeric(14, 2) NOT NULL CHECK (amount_usd >= 0),
        warning_percent smallint NOT NULL DEFAULT 80 CHECK (warning_percent BETWEEN 1 AND 1000),
        critical_percent smallint NOT NULL DEFAULT 95 CHECK (critical_percent BETWEEN 1 AND 1000),
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (organization_id, month),
        CHECK (warning_percent <= critical_percent)
    )
    """,
)

KINDS = (
    """
    ALTER TABLE managed_servers
        ADD COLUMN kind text NOT NULL DEFAULT 'agent' CHECK (kind IN ('agent', 'node_exporter')),
        ALTER COLUMN api_token_hash DROP NOT NULL,
        ALTER COLUMN api_token_ciphertext DROP NOT NULL
    """,
    """
    CREATE OR REPLACE TRIGGER announce_registry_change
        AFTER INSERT OR DELETE OR TRUNCATE
            OR UPDATE OF name, api_url, api_token_ciphertext, ca_certificate, kind, status, updated_at
        ON managed_servers FOR EACH STATEMENT EXECUTE FUNCTION announce_registry_change()
    """,
)


def upgrade() -> None:
    """Apply the change."""
    for statement in (
        *METRICS,
        *LAST_COLLECTIONS,
        *ROLLUPS,
        *UNMONITORED,
        *GROUPS,
        *LEASES,
        *BUDGETS,
        *KINDS,
    ):
        op.execute(statement)


def downgrade() -> None:
    """Take the change back; servers without a token of their own must be gone first."""
    op.execute("DROP VIEW v_server_group_members")
    op.execute(
        "DROP TABLE llm_budgets, worker_leases, server_group_members, server_groups, unmonitored_periods, "
        "fleet_metrics, metrics_rollups_due, metrics_writer, server_last_collections, server_metrics_aggregated"
    )
    op.execute("ALTER TABLE fleet_workers DROP COLUMN state")
    op.execute(
        """
        CREATE OR REPLACE TRIGGER announce_registry_change
            AFTER INSERT OR DELETE OR TRUNCATE
                OR UPDATE OF name, api_url, api_token_ciphertext, ca_certificate, status, updated_at
            ON managed_servers FOR EACH STATEMENT EXECUTE FUNCTION announce_registry_change()
        """
    )
    op.execute(
        """
        ALTER TABLE managed_servers DROP COLUMN kind,
            ALTER COLUMN api_token_hash SET NOT NULL, ALTER COLUMN api_token_ciphertext SET NOT NULL
        """
    )
