"""The core: message, delivery, states, intake, worker, lanes, store. It imports nothing of ours."""
