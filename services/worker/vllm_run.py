"""One run on vLLM: its outputs in the words of the engine port."""

from vllm.outputs import PoolingRequestOutput, RequestOutput

from services.worker.delivery import Delivery
from services.worker.engine import FirstToken, Output, Push, Run
from services.worker.vllm_load import LoadLogger
from services.worker.vllm_sampling import read_end, read_logprobs


class VllmRun:
    """Pushes what vLLM puts, until the run is over."""

    def __init__(self, run: Run, push: Push, load: LoadLogger) -> None:
        self._run = run
        self._push = push
        self._load = load
        self._first_is_due = True
        self._delivery = Delivery(self._take)
        self.over = self._delivery.over

    def put(self, put: RequestOutput | PoolingRequestOutput | Exception) -> None:
        """Take what vLLM puts: an output, or the error that ended the run."""
        if isinstance(put, Exception):
            self._delivery.fail(put)
        else:
            self._delivery.put(put)

    def _take(self, output: RequestOutput | PoolingRequestOutput) -> bool:
        assert isinstance(output, RequestOutput)  # nobody embeds here
        (choice,) = output.outputs
        token_ids = list(choice.token_ids)
        end = read_end(choice)
        goes_on = self._push(
            Output(
                token_ids,
                self._read_first(output) if self._first_is_due and token_ids else None,
                end,
                read_logprobs(token_ids, choice.logprobs, self._run.sampling.logprobs),
            )
        )
        return goes_on and end is None

    def _read_first(self, output: RequestOutput) -> FirstToken | None:
        metrics = output.metrics
        if metrics is None:
            return None
        self._first_is_due = False
        self._load.answered(self._run.run_id)
        return FirstToken(
            cached_tokens=output.num_cached_tokens or 0,
            scheduled_s=metrics.scheduled_ts,
            first_token_s=metrics.first_token_ts,
            decoding_requests=self._load.decoding,
            prompt_logprobs=read_logprobs(
                self._run.tokens, output.prompt_logprobs, self._run.sampling.prompt_logprobs
            ),
        )
