"""Ways in: each module here turns one kind of traffic into calls of `Intake.accept`. They import only `broker`."""
