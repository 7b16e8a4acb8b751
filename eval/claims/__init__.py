"""What the manuscripts claim, what this project measured of it, and what its documents quote."""
