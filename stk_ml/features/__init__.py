"""Feature views in SQL, the point-in-time join over them, and the audit that refuses what was not known in time."""
