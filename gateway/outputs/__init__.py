"""A live session for people who only watch: pushed to an RTMP server, as a progressive MP4 and as HLS."""
