"""The first page of ``python -m zobench --help``: what users want to do, and the command for it."""

START = """\
zobench: compare zeroth-order fine-tuning methods for language models, by forward passes only

What do you want to do?

  see it work: a real model learns in half a minute; no account, no GPU, no downloads
      python -m zobench experiment=quickstart

  compare methods: a table of runs, here a small one; with --dry-run, what it would cost
      python -m zobench.sweep smoke

  fine-tune my model: your table as cfg/task/my_tickets.yaml, your model's folder (docs/own-data.md)
      python -m zobench task=my_tickets --config-dir cfg model=local model.dir=DIR tuning=lora method=mezo

  add a method: one Python file; the contracts that all methods keep say what breaks (CONTRIBUTING.md)
      python -m zobench.testing --method my_package.MyMethod

  check a table: its runs side by side with errors and tests, and the weights behind a row made again, bit for bit
      python -m zobench.report runs/
      python -m zobench.replay RUN

  train in my own loop: any method as a torch optimizer, in Accelerate, Lightning, transformers' Trainer (examples/)
      python examples/plain_loop.py

  maximise a score that has no gradient: accuracy, F1 of generated text, a function of yours (docs/objective.md)
      python -m zobench experiment=quickstart objective=metric method.eps=0.1 method.lr=0.01

  know what a run takes before it runs: forward passes, hours, GiB
      python -m zobench experiment=quickstart --estimate

Everything that can be chosen, with its defaults: python -m zobench --list"""
