"""Other libraries' environments as teams: every value that they return is read or refused here."""
