"""The SO-100: its bus, its joints, real-time execution, and the twin that all of it is proved on."""
