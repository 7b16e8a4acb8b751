"""All runs that are there, as one site of pages that need nothing but each other."""
