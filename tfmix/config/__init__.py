"""Settings: `schema` declares them, `parsing` reads them, `resolve` chooses their values."""
