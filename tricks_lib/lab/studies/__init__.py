"""What the chapters run, a module a trick; and, in ``COMPARISONS``, the table of evidence."""
