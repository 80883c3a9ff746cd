"""Live sessions: a face that is there in real time, listens, answers and can be interrupted."""
