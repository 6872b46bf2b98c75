"""Jobs that are not lost: predictions kept in a database until each has ended once."""
