"""The Open Inference Protocol over gRPC: the cloud's server and the device's transport.

messages.py   the protocol's messages, in a descriptor pool of their own
tensors.py    tensor contents ↔ arrays
servicer.py   the six calls, answered by a CloudService
server.py     the server itself: ports, limits, stopping
client.py     Grpc, the transport of a device
wire.py       bytes that a call puts on the wire
"""
