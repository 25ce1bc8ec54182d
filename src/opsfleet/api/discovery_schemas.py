"""Service discovery as it travels, for the OpenAPI document."""

from pydantic import BaseModel, ConfigDict, RootModel


class TargetGroupResource(BaseModel):
    """One server as Prometheus takes it: what to scrape, and what is known of it."""

    targets: list[str]
    labels: dict[str, str]


class TargetGroupList(RootModel[list[TargetGroupResource]]):
    """All servers that match."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": [
                {
                    "targets": ["prod-east-2.example.com:9100"],
                    "labels": {
                        "__meta_opsfleet_server_id": "01930f6e-7a00-7000-8000-000000000000",
                        "__meta_opsfleet_name": "prod-east-2",
                        "__meta_opsfleet_organization": "default",
                        "__meta_opsfleet_region": "us-east",
                        "__meta_opsfleet_environment": "production",
                        "__meta_opsfleet_kind": "node_exporter",
                        "__meta_opsfleet_status": "active",
                        "__meta_opsfleet_health_status": "healthy",
                        "__meta_opsfleet_version": "1.9.1",
                        "__meta_opsfleet_hostname": "prod-east-2.example.com",
                        "__meta_opsfleet_tags": ",web,eu,",
                        "__meta_opsfleet_groups": ",frontends,",
                        "__meta_opsfleet_tag_web": "true",
                        "__meta_opsfleet_tag_eu": "true",
                        "__scheme__": "https",
                        "__metrics_path__": "/metrics",
                    },
                }
            ]
        }
    )
