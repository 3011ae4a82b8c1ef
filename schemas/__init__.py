"""The published language of the engine: records, identifiers, money and their bytes. No I/O, imported by every room."""
