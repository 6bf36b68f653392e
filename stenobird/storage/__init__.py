"""All SQL: tables, stores, the engine and its migrations."""
