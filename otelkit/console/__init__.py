"""What a developer sees: each local trace as a tree, log records as lines, metrics as a table, all on standard error.

Imported only when a setting or a terminal asks for it, since it brings rich along.
"""
