"""Organizations, managed servers, health checks, transitions, workers."""

from alembic import op

from opsfleet.domain.ids import DEFAULT_ORGANIZATION

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ORGANIZATIONS = (
    """
    CREATE TABLE organizations (
        id uuid PRIMARY KEY,
        name text NOT NULL,
        slug text NOT NULL UNIQUE,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    f"""
    INSERT INTO organizations (id, name, slug) VALUES ('{DEFAULT_ORGANIZATION}', 'Default', 'default')
    """,
)

# Room is left in each page so that the health columns, which change with every check, are updated in place (HOT): no
# index names last_seen_at, last_health_check_at or version, and health_status changes rarely.
MANAGED_SERVERS = (
    """
    CREATE TABLE managed_servers (
        id uuid PRIMARY KEY,
        organization_id uuid NOT NULL REFERENCES organizations (id),
        name text NOT NULL,
        description text NOT NULL DEFAULT '',
        hostname text NOT NULL,
        api_url text NOT NULL,
        api_token_hash bytea NOT NULL,
        api_token_ciphertext bytea NOT NULL,
        ca_certificate text,
        version text,
        region text,
        environment text,
        status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'inactive', 'maintenance')),
        health_status text CHECK (health_status IN ('healthy', 'degraded', 'critical', 'unreachable')),
        last_seen_at timestamptz,
        last_health_check_at timestamptz,
        unreachable_since timestamptz,
        tags jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(tags) = 'array'),
        metadata jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (organization_id, name)
    ) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.5, autovacuum_analyze_scale_factor = 0.5)
    """,
    """
    CREATE INDEX managed_servers_health ON managed_servers (organization_id, health_status)
    """,
    """
    CREATE INDEX managed_servers_tags ON managed_servers USING gin (tags)
    """,
)

# Statement triggers on the columns that people change: the workers' updates name others, so they cost nothing.
REGISTRY_CHANGES = (
    """
    CREATE FUNCTION announce_registry_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('fleet_registry', '');
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER announce_registry_change
        AFTER INSERT OR DELETE OR TRUNCATE
            OR UPDATE OF name, api_url, api_token_ciphertext, ca_certificate, status, updated_at
        ON managed_servers FOR EACH STATEMENT EXECUTE FUNCTION announce_registry_change()
    """,
)

HEALTH = (
    """
    CREATE TABLE server_health_checks (
        server_id uuid NOT NULL,
        timestamp timestamptz NOT NULL,
        status text NOT NULL,
        response_time_ms real,
        database_healthy boolean,
        redis_healthy boolean,
        services_healthy boolean,
        error_message text,
        error_details jsonb,
        PRIMARY KEY (server_id, timestamp)
    ) PARTITION BY RANGE (timestamp)
    """,
    """
    CREATE TABLE server_health_checks_default PARTITION OF server_health_checks DEFAULT
    """,
    """
    CREATE TABLE health_transitions (
        server_id uuid NOT NULL,
        organization_id uuid NOT NULL,
        from_status text,
        to_status text NOT NULL,
        at timestamptz NOT NULL,
        reason text,
        PRIMARY KEY (server_id, at)
    )
    """,
    """
    CREATE INDEX health_transitions_recent ON health_transitions (organization_id, at DESC)
    """,
    """
    CREATE TABLE removed_servers (
        server_id uuid PRIMARY KEY,
        organization_id uuid NOT NULL,
        removed_at timestamptz NOT NULL DEFAULT now()
    )
    """,
)

WORKERS = (
    """
    CREATE TABLE fleet_workers (
        id uuid PRIMARY KEY,
        role text NOT NULL,
        host text NOT NULL,
        pid integer NOT NULL,
        started_at timestamptz NOT NULL,
        heartbeat_at timestamptz NOT NULL,
        statistics jsonb NOT NULL
    )
    """,
)

VIEWS = (
    """
    CREATE VIEW v_fleet_summary AS
    SELECT organization_id, status, health_status, count(*) AS servers
    FROM managed_servers GROUP BY organization_id, status, health_status
    """,
    """
    CREATE VIEW v_server_health_overview AS
    SELECT server.organization_id, server.id AS server_id, server.name, server.region, server.environment,
        server.status, server.health_status, server.last_seen_at, server.unreachable_since,
        latest.timestamp AS checked_at,
        latest.response_time_ms, latest.database_healthy, latest.redis_healthy, latest.services_healthy,
        latest.error_message
    FROM managed_servers AS server
    LEFT JOIN LATERAL (
        SELECT * FROM server_health_checks AS health
        WHERE health.server_id = server.id ORDER BY health.timestamp DESC LIMIT 1
    ) AS latest ON true
    """,
)


def upgrade() -> None:
    """Apply the change."""
    for statement in (*ORGANIZATIONS, *MANAGED_SERVERS, *REGISTRY_CHANGES, *HEALTH, *WORKERS, *VIEWS):
        op.execute(statement)


def downgrade() -> None:
    """Take the change back."""
    op.execute("DROP VIEW v_server_health_overview, v_fleet_summary")
    op.execute(
        "DROP TABLE fleet_workers, removed_servers, health_transitions, server_health_checks, managed_servers, "
        "organizations"
    )
    op.execute("DROP FUNCTION announce_registry_change")
