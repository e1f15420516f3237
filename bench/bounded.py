"""How much of a full index is of use: chats of many turns, and room for a part of them.

`python -m bench.bounded [--turns N] [--seed N]`
"""

import argparse
import sys
from dataclasses import dataclass, field
from random import Random

from services.scheduler.index import PrefixIndex

WORKERS = 64
TURNS_OF_A_CHAT = 10  # in the mean
CASES = ((20_000, 200), (20_000, 400), (10_000, 400))


@dataclass(slots=True)
class Chat:
    """A conversation that stays on one worker, which forgets nothing: the worst for an index,
    because a worker tells of a block only once."""

    slot: int
    blocks: list[int] = field(default_factory=list)


def main() -> int:
    """Print a row for each case."""
    arguments = _arguments()
    print("| limit | chats | their blocks | indexed | reachable |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for limit, chats in CASES:
        index, live = chatted(limit, chats, arguments.turns, Random(arguments.seed))
        # A chat's blocks that a match finds; those after a gap it does not.
        reachable = sum(int(index.match(chat.blocks, WORKERS)[chat.slot]) for chat in live)
        blocks = sum(len(chat.blocks) for chat in live)
        print(f"| {limit:,} | {chats} | {blocks:,} | {index.blocks:,} | {reachable:,} |")
    return 0


def chatted(limit: int, chats: int, turns: int, chance: Random) -> tuple[PrefixIndex, list[Chat]]:
    """Any chat has its next turn; now and then one ends and another begins."""
    index, live = PrefixIndex(limit, WORKERS), list[Chat]()
    for _ in range(turns):
        if len(live) == chats and chance.random() < 1 / TURNS_OF_A_CHAT:
            live.pop(chance.randrange(chats))
        if len(live) < chats:
            live.append(Chat(chance.randrange(WORKERS)))
        chat = chance.choice(live)
        index.match(chat.blocks, WORKERS)
        new = [chance.getrandbits(64) for _ in range(chance.randint(5, 40))]
        index.store(chat.slot, new)
        chat.blocks.extend(new)
    return index, live


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.bounded", description=__doc__)
    parser.add_argument("--turns", type=int, default=40_000, help="of all chats together")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
