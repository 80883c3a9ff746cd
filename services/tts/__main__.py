from services.runtime.host import main

main("tts")
