"""The training loop and what it leaves behind: config, checkpoint, metrics, pictures. Open `trainer.py` first."""
