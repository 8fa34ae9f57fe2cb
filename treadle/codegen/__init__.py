"""From schedules to machine code through LLVM. Open `llvm.py` first (the text builder), then `loops.py`."""
