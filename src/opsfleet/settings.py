"""Interim settings."""
import base64, os
from dataclasses import dataclass
from ipaddress import ip_network
from pathlib import Path
from pydantic import SecretStr
class SettingsError(Exception): ...
@dataclass
class DatabaseSettings:
    dsn: str
class Settings:
    @classmethod
    def from_environment(cls, e, *, is_terminal=False):
        s = cls(); g = e.get
        s.health_interval=float(g("FLEET_HEALTH_INTERVAL","30")); s.metrics_interval=60.0
        s.health_batch_size=int(g("FLEET_HEALTH_BATCH_SIZE","10")); s.health_batch_delay=float(g("FLEET_HEALTH_BATCH_DELAY","0.5"))
        s.request_timeout=float(g("FLEET_REQUEST_TIMEOUT","10")); s.max_in_flight=int(g("FLEET_MAX_IN_FLIGHT","5000")); s.results_buffer=500000
        s.http_allow=tuple(map(ip_network,["127.0.0.0/8","::1/128"])); s.network_deny=tuple(map(ip_network,["169.254.0.0/16","fe80::/10"])); s.network_allow=()
        s.data_dir=Path(g("FLEET_DATA_DIR","/var/lib/opsfleet")); k=g("FLEET_SECRET_KEY"); s.secret_key=SecretStr(k) if k else None
        s.secret_key_bytes=base64.b64decode(k) if k else b""
        t=g("FLEET_BOOTSTRAP_ADMIN_TOKEN"); s.bootstrap_admin_token=SecretStr(t) if t else None
        s.database=DatabaseSettings(e["DATABASE_URL"]) if "DATABASE_URL" in e else None
        s.host=g("FLEET_HOST","127.0.0.1"); s.port=int(g("FLEET_PORT","8080")); s.role=g("FLEET_ROLE","all"); s.log_format="console"; s.log_level=g("FLEET_LOG_LEVEL","info")
        return s
