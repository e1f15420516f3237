"""What a token and a request cost, in instructions: a guard that a busy machine cannot disturb.

`python -m bench.cost` counts and compares with tests/cost/baseline.json, `--record` writes that
file, tests/cost fails where a count has left its bound. docs/benchmarks/hot-path.md has figures.

* **Counted** are the instructions of this process by callgrind, on workloads that are fixed: no
  network, no socket, no chance; `PYTHONHASHSEED=0`. CPU time of the same code varies by ten
  percent here, its instructions by 0.3 % from run to run and on a loaded machine.
* **Counted after a warm-up**, between two requests to callgrind: imports, set-up, lazy caches and
  the specialising of bytecode are over, and what was there before is hidden from the collector.
* **The CPU** is valgrind's own, with AVX2 and without AVX-512 whatever the machine has, so that
  libc and numpy choose the same code everywhere. Without AVX2 the counts differ by up to 1.5 %.
* **The bound** is above that, and above the 0.8 % by which an edit of anything moves what is in
  memory; a `HasField` for each token is five times as much. It holds both ways: a gain is to be
  recorded too, or it could be lost again without a word.
* **The yardstick** is plain Python, counted beside the rest. Builds of one version of Python
  differ: Debian's 3.11.2 takes 18 % less for it than pyenv's 3.11.7, and 2 to 14 % less for the
  workloads, which are Python in part and pinned wheels in part. So a build that takes `scale` for
  plain Python may take anything between `scale` and 1 for a workload, and the bound on top of it;
  where the build is the recorded one, that is the bound alone.
* **Another minor version** of Python is another cost: the baseline says nothing of it, and the
  test fails and says so rather than pass. Versions of what else is counted are recorded too, and
  a failure names those that changed.
"""
