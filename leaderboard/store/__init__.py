"""Storage of results: databases, schema versions, migrations and leases."""
