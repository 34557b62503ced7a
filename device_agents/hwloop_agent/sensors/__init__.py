"""What the board's sensors say: one abstraction over x86, Raspberry Pi and Jetson, with file roots that tests replace.

`board` reads state, `rails` and `energy` power, `gate` waits for a cool board, `admission` refuses what does not fit
into memory, `profile` knows which sensors a board should have. A sensor that cannot be read is never an all-clear.
"""
