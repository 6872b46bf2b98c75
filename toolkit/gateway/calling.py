"""One call of a model, over the gateway's own hop: the client's codec without its policy.

The client's retries, balancing and records cost as much as the model itself where a call has
few rows. Here there is one Triton, and a caller who is told 503 at once may ask again.
"""

import ssl

from toolkit.client.addresses import parse
from toolkit.client.asking import Signature
from toolkit.client.http_codec import HttpReply, decode, encode
from toolkit.client.transport import InferRequest
from toolkit.gateway import spans
from toolkit.gateway.features import Tensors
from toolkit.gateway.hop import Hop

_CONNECTIONS = 256


class Calls:
    """Calls to the models of the Triton at ``url`` (its HTTP port), for one event loop."""

    def __init__(self, url: str) -> None:
        address = parse(url)
        tls = ssl.create_default_context() if address.scheme == "https" else None
        self._prefix = address.path
        self._hop = Hop(address.host, address.port, tls=tls, connections=_CONNECTIONS)

    async def infer(
        self, call: InferRequest, signature: Signature, seconds: float
    ) -> tuple[Tensors, str]:
        """Return the model's outputs in their order, and the version that answered.

        Labels have one value a row. Raises ``RequestError``s.
        """
        request = encode(call, seconds)
        lines = (line.partition(": ") for line in request.headers)
        headers = [(name.encode(), value.encode()) for name, _, value in lines]
        target = (self._prefix + request.path).encode()
        answer = await self._hop.ask(
            b"POST", target, [*headers, *spans.headers()], request.body or b"", seconds
        )
        told = {name.decode("latin-1"): value.decode("latin-1") for name, value in answer.headers}
        response = decode(call, HttpReply(answer.status, told, answer.body))
        scalars = signature.scalars
        arrays = response.outputs
        outputs = {
            name: arrays[name].reshape(-1) if name in scalars else arrays[name]
            for name in (output.name for output in signature.metadata.outputs)
            if name in arrays
        }
        return outputs, response.version

    async def close(self) -> None:
        """Close the connections."""
        await self._hop.close()
