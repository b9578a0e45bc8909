"""The bucket, for results and for pictures to work on."""
