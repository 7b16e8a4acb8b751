"""What both stages share: objectives, optimizer, the loop, checkpoints and logs."""
