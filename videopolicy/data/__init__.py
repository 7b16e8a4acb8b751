"""Episodes on disk (LeRobot dataset v3.0) and their way into batches of clips and targets."""
