"""What is asked of the components on the machine: database, Redis, services."""
