"""WebRTC: a microphone in, a voice and a face out, for everybody who posts an SDP offer."""
