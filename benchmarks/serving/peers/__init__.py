"""The servers that are compared, one file each, in the order in which they are shown."""
