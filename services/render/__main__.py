from services.runtime.host import main

main("render")
