"""From files to a report and back: config, tables, store, report."""
