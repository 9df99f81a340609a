"""Running code that nobody has read: how it is shut in (isolation), what runs inside (worker), what stays outside (pool)."""
