"""What the approvals page shows: records as a browser is told them, the board that watches the store, and the files."""
