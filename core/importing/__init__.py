"""From a file's bytes to mutations of the hub: rows are split, cells become values, columns are sent to be written."""
