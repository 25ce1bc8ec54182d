"""The HTTP API: routers, schemas, and errors as HTTP. No SQL, no state rules."""
