from talkmesh.cli import main

main()
