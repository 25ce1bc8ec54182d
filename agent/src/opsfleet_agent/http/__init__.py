"""A small HTTP/1.1 server: one process, few connections, strict limits."""
