"""`headway replay`: recorded traffic decided again, beside what really happened."""

from argparse import Namespace
from dataclasses import asdict
from random import Random

from command.errors import CommandError
from command.plotting import check_plot, plot_summaries
from command.progress import wide_console
from command.reading import lines_of
from command.simulate import check_workers, known_policies, said, serve, table
from command.simulation.recordings import BadRecording, Recording, read_recording
from command.simulation.results import Summary, summary
from command.simulation.retold import Story, tell, with_costs
from command.simulation.workload import faster
from services.scheduler.placement import POLICIES
from services.worker.sim_core import SimSettings, read_settings


def replay(arguments: Namespace) -> None:
    """Run the recording under each policy and print a table."""
    policies = known_policies(arguments.policy) or list(POLICIES)
    plot = check_plot(arguments.plot) if arguments.plot else None
    recording = _read(arguments.file)
    story = _story(recording, arguments)
    settings = _costs(story, arguments.sim)
    workers = check_workers(story.most_live if arguments.workers is None else arguments.workers)
    jobs = faster(story.jobs, _speed(arguments.speed))
    really = summary(f"recorded: {recording.policy}", story.served, len(story.workers))
    print(_heading(story, really))
    conditions = said(jobs, workers, settings, arguments.seed)
    print(f"replayed: {conditions}")
    rows = [really]
    for name in policies:
        rows.append(serve(POLICIES[name](Random(arguments.seed)), jobs, workers, settings))
    wide_console().print(table(rows))
    if plot is not None:
        plot_summaries(rows, f"{story.model}, {conditions}", plot)
        print(f"plotted in {plot}")


def _read(path: str) -> Recording:
    try:
        with lines_of(path, path) as lines:
            return read_recording(lines)
    except BadRecording as error:
        raise CommandError(f"{path}: {error}") from error


def _story(recording: Recording, arguments: Namespace) -> Story:
    try:
        return tell(recording, arguments.model)
    except BadRecording as error:
        raise CommandError(f"{arguments.file}: {error}") from error


def _speed(speed: float) -> float:
    if not 0 < speed < float("inf"):
        raise CommandError(f"--speed must be positive, got {speed}")
    return speed


def _costs(story: Story, given: str) -> SimSettings:
    """What the workers said, what their steps took, and over both what is given."""
    settings = story.settings
    if story.costs is not None:
        settings = with_costs(settings, story.costs)
    elif not given:
        raise CommandError(
            "the recording is too short to know what a step costs;"
            " say it with --sim base_ms=…,prefill_us=…,decode_us=…"
        )
    known = ",".join(f"{name}={value!r}" for name, value in asdict(settings).items())
    try:
        wanted = read_settings(f"{known},{given}")
    except ValueError as error:
        raise CommandError(f"--sim: {error}") from error
    if wanted.block_size != settings.block_size:
        raise CommandError(f"--sim block_size is {settings.block_size} in this recording")
    if not wanted.base_ms + wanted.decode_us + wanted.prefill_us:
        raise CommandError("--sim: a step must take time")
    return wanted


def _heading(story: Story, really: Summary) -> str:
    parts = [f"recorded: {really.requests} requests for {story.model}"]
    if story.turned_away:
        parts.append(f"{story.turned_away} more were turned away")
    if story.unfinished:
        parts.append(f"{story.unfinished} more have no first token or no end; neither is replayed")
    if len({(each.block_size, each.capacity_blocks) for each in story.workers}) > 1:
        parts.append(f"the workers differ, and all are taken to be like {story.workers[0].id}")
    return "; ".join(parts)
